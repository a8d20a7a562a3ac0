"""Fixtures that every test may ask for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hbase_server import LocalHBase
from hypothesis import settings

# How long an example takes says something about the machine, and nothing about the law that is tested.
settings.register_profile("f1hbase", deadline=None)
settings.load_profile("f1hbase")

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def hbase(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHBase]:
    """A running HBase for the whole session, started when the first test asks for it.

    A test may stop, kill and start it, but leaves it running. They share it: see ``table_prefix``.
    The jars come from where scripts/local_hbase.sh keeps them (LOCAL_HBASE_JARS, if set), fetched if need be.
    """
    server = LocalHBase(tmp_path_factory.mktemp("hbase"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def table_prefix() -> str:
    """A ``--table-prefix`` that no other test uses."""
    return f"t{next(_numbers)}"
