"""`ingest`: any data file into a store, once, and a record of it into a catalogue."""

from f1hbase.operations.ingest.base import AlreadyThereError, Catalogue, DoNotRetryError, FileStore, RetryLaterError
from f1hbase.operations.ingest.run import Ingester

__all__ = ["AlreadyThereError", "Catalogue", "DoNotRetryError", "FileStore", "Ingester", "RetryLaterError"]
