"""Bring Formula 1 data to where people work with it: from OpenF1 and others into HBase and landing zones, and back.

>>> import f1hbase
>>> result = f1hbase.load(mode="latest", num_sessions=10)
>>> result.exit_code, result.overall.all_rows
>>> f1hbase.connect().session(9551).laps(driver=44).to_pandas()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from f1hbase.version import __version__

if TYPE_CHECKING:
    from f1hbase.api import connect, ingester, live, load, open, plan, status  # noqa: A004

__all__ = ["__version__", "connect", "ingester", "live", "load", "open", "plan", "status"]


def __getattr__(name: str) -> Any:
    # What imports the package for its codec alone need not wait for all the rest.
    if name in {"connect", "ingester", "live", "load", "open", "plan", "status"}:
        from f1hbase import api

        return getattr(api, name)
    raise AttributeError(f"module 'f1hbase' has no attribute '{name}'")
