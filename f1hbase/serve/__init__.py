"""The OpenF1-compatible API over stored records."""
