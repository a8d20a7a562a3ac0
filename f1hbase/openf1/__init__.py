"""The source: everything that knows HTTP and the ways of the OpenF1 API."""
