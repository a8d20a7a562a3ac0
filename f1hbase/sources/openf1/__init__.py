"""The OpenF1 REST API: its filters, formats, limits, tokens."""
