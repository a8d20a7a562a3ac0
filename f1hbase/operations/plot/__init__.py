"""`plot`: the charts of a session as pictures, drawn by matplotlib without a display."""
