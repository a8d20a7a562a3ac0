"""Decoded tables as files: Parquet, CSV or JSON lines."""
