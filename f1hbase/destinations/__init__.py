"""Where records go; a destination knows no source."""
