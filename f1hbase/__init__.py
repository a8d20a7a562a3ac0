"""Bring Formula 1 data to where people work with it: from OpenF1 and others into HBase and landing zones.

>>> import f1hbase
>>> result = f1hbase.load(mode="latest", num_sessions=10)
>>> result.exit_code, result.overall.all_rows
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from f1hbase.version import __version__

if TYPE_CHECKING:
    from f1hbase.api import load, plan, status

__all__ = ["__version__", "load", "plan", "status"]


def __getattr__(name: str) -> Any:
    # What imports the package for its codec alone need not wait for all the rest.
    if name in {"load", "plan", "status"}:
        from f1hbase import api

        return getattr(api, name)
    raise AttributeError(f"module 'f1hbase' has no attribute '{name}'")
