"""An OpenF1-compatible server over files, and a simulator that makes such files.

``python -m f1hbase.replay serve DIR...`` answers like the OpenF1 API from folders of
``<endpoint>.jsonl[.gz]``; ``python -m f1hbase.replay simulate OUTDIR`` writes such folders for races that
never happened. Tests, benchmarks and the demo use both, so that nothing here ever needs the network.
"""

from f1hbase.replay.server import create_app
from f1hbase.replay.store import Store, StoreError

__all__ = ["Store", "StoreError", "create_app"]
