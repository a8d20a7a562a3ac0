"""Load Formula 1 data from the OpenF1 API into Apache HBase."""

__version__ = "0.1.0"
