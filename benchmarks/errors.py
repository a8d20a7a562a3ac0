"""What can go wrong with a benchmark."""

from __future__ import annotations


class BenchmarkError(Exception):
    """Something did not do what it was measured for; the message says what, and what it said itself."""
