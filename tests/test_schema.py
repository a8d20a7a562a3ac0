"""The tables as the genuine hbase shell makes and describes them, and what becomes of them without it."""

from __future__ import annotations

import gzip
import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import happybase
import psutil
import pytest
from cli import ENTRY_POINT, Loader
from click.testing import CliRunner
from hbase_server import LocalHBase
from replay_server import ReplayServer
from samples import sample

from f1hbase.cli.commands import cli
from f1hbase.config import resolve
from f1hbase.errors import ConfigError
from f1hbase.model.catalog import DATA_FAMILIES
from f1hbase.model.units import Scope
from f1hbase.stores.hbase.connector import find_gateway
from f1hbase.stores.hbase.schema import (
    MOST_REGIONS,
    Layout,
    SchemaReader,
    Tables,
    ensure_tables,
    parse_descriptions,
    split_points,
)
from f1hbase.stores.hbase.shell import ShellError, run_shell

_COMMANDS = ENTRY_POINT.parent / "scripts" / "bin"
_MEETINGS = range(98, 110)
"""Of two and of three digits: as text, 100 comes before 98."""


def _command(folder: Path, script: str) -> Path:
    """Make a command `hbase` that is another than HBase's."""
    folder.mkdir(exist_ok=True)
    command = folder / "hbase"
    command.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    command.chmod(0o755)
    return command


# --- without HBase ---


def test_a_season_has_a_region_a_meeting_in_the_order_of_hbase() -> None:
    meetings = [Scope(2024, key, None) for key in _MEETINGS]
    splits = split_points(meetings)
    assert splits == tuple(sorted((f"2024#{key}" for key in _MEETINGS), key=str.encode)[1:])
    assert splits[0] == "2024#101"
    assert splits[-1] == "2024#99"


@pytest.mark.parametrize(("meetings", "regions"), [(0, 10), (1, 10), (9, 10), (10, 10), (24, 10), (300, MOST_REGIONS)])
def test_more_meetings_than_regions_are_shared_out_evenly(meetings: int, regions: int) -> None:
    keys = [f"2024#{1000 + number}" for number in range(meetings)]
    splits = split_points([Scope(2024, 1000 + number, None) for number in reversed(range(meetings))], regions)
    assert len(splits) == max(0, min(meetings, regions) - 1)
    edges = [0, *(keys.index(split) for split in splits), meetings]
    sizes = [after - before for before, after in pairwise(edges)]
    assert max(sizes) - min(sizes) <= 1


def test_a_script_without_split_points_needs_nobody() -> None:
    away = ["--api-url", "http://127.0.0.1:1/v1", "--hbase-port", "1"]
    options = ["--regions", "1", "--compression", "zstd", "--table-prefix", "p", *away]
    result = CliRunner().invoke(cli, ["schema", *options])
    assert result.exit_code == 0, result.output
    script = result.stdout
    assert script.count("COMPRESSION => 'ZSTD'") == len(DATA_FAMILIES) + 3
    assert "create 'p_f1_data'" in script
    assert "SPLITS" not in script


@pytest.mark.parametrize(
    ("options", "error"),
    [(["--create", "--check"], "exclude each other"), (["--check", "--regions", "2"], "--regions goes with")],
)
def test_what_excludes_each_other_is_refused(options: list[str], error: str) -> None:
    result = CliRunner().invoke(cli, ["schema", *options])
    assert result.exit_code == 2
    assert error in result.output


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'hbase:001:0> create'; echo 'ERROR: Table already exists: x!'; exit 1", "Table already exists: x!"),
        (
            "echo 'Unhandled Java exception: a.RemoteException(b.IOException): c.Exception: no lz4'; exit 1",
            "no lz4",
        ),
        ("exit 7", "ended with exit code 7"),
    ],
)
def test_a_script_that_fails_is_named_in_the_shell_s_own_words(tmp_path: Path, script: str, reason: str) -> None:
    with pytest.raises(ShellError, match=rf"^(hbase shell )?{re.escape(reason)}$"):
        run_shell(str(_command(tmp_path, script)), "list")


def test_a_shell_that_does_not_end_is_ended(tmp_path: Path) -> None:
    command = _command(tmp_path, f"sleep 600 & echo $! > {tmp_path}/pid; wait")
    with pytest.raises(ShellError, match=r"has not ended after 0\.5 s"):
        run_shell(str(command), "list", seconds=0.5)
    with suppress(psutil.NoSuchProcess):
        child = psutil.Process(int((tmp_path / "pid").read_text(encoding="utf-8")))
        assert child.status() == psutil.STATUS_ZOMBIE or child.wait(10) is None


def test_a_command_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    with pytest.raises(ShellError, match="cannot be started"):
        run_shell(str(tmp_path / "none"), "list")


# --- with the genuine shell (each start takes it some seconds, so there are three) ---


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplayServer]:
    """A season of twelve meetings, a session each."""
    folder = tmp_path_factory.mktemp("season")
    for endpoint in ("meetings", "sessions"):
        keys = [
            {"meeting_key": key} | ({"session_key": 1000 + key} if endpoint == "sessions" else {}) for key in _MEETINGS
        ]
        with gzip.open(folder / f"{endpoint}.jsonl.gz", "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(sample(endpoint, **key)) + "\n" for key in keys)
    with ReplayServer(folder) as server:
        yield server


class Shop(NamedTuple):
    """A loader with the tables `sh_*`, and what the shell said when it made them."""

    loader: Loader
    with_shell: Loader
    hbase: LocalHBase
    before: str
    said: str

    @contextmanager
    def table(self, name: str) -> Iterator[happybase.Table]:
        """Open a table on a connection of its own: the gateway closes one that idles while a shell starts."""
        connection = happybase.Connection(self.hbase.host, self.hbase.port)
        try:
            yield connection.table(name)
        finally:
            connection.close()

    def starts(self, name: str) -> list[str]:
        """The first row keys of a table's regions."""
        with self.table(name) as table:
            return [region["start_key"].decode() for region in table.regions()]


@pytest.fixture(scope="module")
def shop(hbase: LocalHBase, api: ReplayServer, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """`f1_data` made by the printed script, `f1_reports` bare and corrected by what --check without a shell says."""
    folder = tmp_path_factory.mktemp("schema")
    environment = {
        "F1HBASE_HBASE_HOST": hbase.host, "F1HBASE_HBASE_PORT": str(hbase.port), "F1HBASE_API_URL": api.url,
        "F1HBASE_TABLE_PREFIX": "sh", "XDG_STATE_HOME": str(folder / "state"),
    }  # fmt: skip
    path = {"PATH": f"{_COMMANDS}{os.pathsep}{os.environ['PATH']}"}
    loader = Loader(folder, environment)
    connection = happybase.Connection(hbase.host, hbase.port)
    connection.create_table("sh_f1_reports", {"meta": {}, "stats": {"bloom_filter_type": "ROW"}})
    connection.table("sh_f1_reports").put(b"row", {b"meta:x": b"1"})
    connection.close()
    before = loader.run("schema", "--check", exit_code=1)
    correction = "\n".join(line for line in before.splitlines() if line.startswith("    "))
    script = loader.run("schema", "--year", "2024", "--regions", "10")
    # Twice: the second time everything is there.
    said = hbase.shell("\n".join([script, script, correction, "describe 'sh_f1_data'"]))
    return Shop(loader, Loader(folder, environment | hbase.environment | path), hbase, before, said)


@pytest.mark.hbase
def test_the_printed_script_makes_the_tables_as_asked(shop: Shop) -> None:
    families = parse_descriptions(shop.said)["sh_f1_data"]
    assert set(families) == set(DATA_FAMILIES)
    wanted = {"DATA_BLOCK_ENCODING": "FAST_DIFF", "COMPRESSION": "GZ", "BLOOMFILTER": "ROW", "VERSIONS": "1"}
    for options in families.values():
        assert {name: options[name] for name in wanted} == wanted
        assert options["BLOCKCACHE"] == "true"
    starts = shop.starts("sh_f1_data")
    assert starts == ["", *split_points([Scope(2024, key, None) for key in _MEETINGS], 10)]
    assert len(starts) == 10


@pytest.mark.hbase
def test_a_check_over_thrift_names_what_is_absent_missing_or_different_and_the_fix(shop: Shop) -> None:
    assert "sh_f1_data: there is no such table; 'schema --create' or 'load' creates it" in shop.before
    assert "sh_f1_reports: 2 families, 1 region: differs" in shop.before
    for line in (
        "DATA_BLOCK_ENCODING is not checked",
        "missing: errors",
        "COMPRESSION is NONE instead of GZ: meta, stats",
        "BLOOMFILTER is NONE instead of ROW: meta",
        "VERSIONS is 3 instead of 1: meta, stats",
        "BLOCKCACHE is false instead of true: meta, stats",
        "alter 'sh_f1_reports',",
        "major_compact 'sh_f1_reports'",
    ):
        assert f"  {line}" in shop.before


@pytest.mark.hbase
def test_a_check_with_the_shell_compares_the_encoding_as_well(shop: Shop) -> None:
    said = shop.with_shell.run("schema", "--check", exit_code=1)
    assert "sh_f1_data: 17 families, 10 regions: as it should be" in said
    # What Thrift tells had been corrected; the new family has everything, the others keep their encoding.
    assert "sh_f1_reports: 3 families, 1 region: differs" in said
    assert "  DATA_BLOCK_ENCODING is NONE instead of FAST_DIFF: meta, stats\n" in said
    assert said.count(" instead of ") == 1
    assert "{NAME => 'meta', DATA_BLOCK_ENCODING => 'FAST_DIFF'}" in said
    over_thrift = shop.loader.run("schema", "--check")
    assert over_thrift.count("as it should be") == 2
    assert "DATA_BLOCK_ENCODING is not checked" in over_thrift


@pytest.mark.hbase
def test_existing_tables_stay_as_they_are(shop: Shop) -> None:
    said = shop.loader.run("schema", "--create", "--regions", "1", "--compression", "NONE")
    assert said.count("was there already, and stays as it is") == 2
    with shop.table("sh_f1_reports") as table:
        assert table.row(b"row") == {b"meta:x": b"1"}
    assert len(shop.starts("sh_f1_data")) == 10
    assert "COMPRESSION is GZ instead of NONE: every family" in shop.loader.run(
        "schema", "--check", "--compression", "NONE", exit_code=1
    )


@pytest.mark.hbase
def test_a_load_makes_its_tables_with_the_shell_on_the_path(shop: Shop) -> None:
    what = [option for key in (98, 99, 100) for option in ("--meeting-key", str(key))]
    said = shop.with_shell.run("--table-prefix", "auto", "--endpoint", "meetings", *what)
    assert "creating auto_f1_data and auto_f1_reports with '" in said
    assert "[WARNING]" not in said
    assert shop.starts("auto_f1_data") == ["", "2024#98", "2024#99"]
    with shop.table("auto_f1_data") as table:
        assert [key for key, _ in table.scan()] == [b"2024#100", b"2024#98", b"2024#99"]
    assert "auto_f1_data: 17 families, 3 regions: as it should be" in shop.loader.run(
        "schema", "--check", "--table-prefix", "auto"
    )


@pytest.mark.hbase
@pytest.mark.parametrize(
    ("script", "warning"),
    [
        ("echo 'ERROR: no quorum'; exit 1", "hbase shell did not create {p}_f1_data and {p}_f1_reports: no quorum"),
        ("cat > /dev/null", "but not in the HBase of the Thrift gateway: it belongs to another one"),
        ("", "as there is no command 'hbase' on the PATH"),
    ],
)
def test_without_a_shell_that_works_thrift_makes_the_tables_and_says_what_is_lost(
    hbase: LocalHBase, table_prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, script: str, warning: str
) -> None:
    connector = SchemaReader([find_gateway(hbase.host, hbase.port)], patience=5)
    shell = str(_command(tmp_path, script)) if script else None
    tables = Tables(table_prefix)
    with caplog.at_level(logging.WARNING, "f1hbase"):
        created = ensure_tables(connector, tables, Layout(splits=("2024#1",)), shell)
    assert created == [tables.data, tables.reports]
    assert warning.format(p=table_prefix) in caplog.text
    assert "created over Thrift" in caplog.text
    assert "cannot set FAST_DIFF" in caplog.text
    assert "nor split points" in caplog.text
    assert connector.descriptions(tables.data) == {
        family: {"COMPRESSION": "GZ", "BLOOMFILTER": "ROW", "VERSIONS": "1", "BLOCKCACHE": "true"}
        for family in DATA_FAMILIES
    }
    connector.close()


@pytest.mark.hbase
def test_a_compression_that_hbase_has_not_becomes_gz(
    hbase: LocalHBase, table_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    connector = SchemaReader([find_gateway(hbase.host, hbase.port)], patience=0)
    tables = Tables(table_prefix)
    with caplog.at_level(logging.WARNING, "f1hbase"):
        ensure_tables(connector, tables, Layout("LZ4"))
    assert f"'{tables.data}' cannot have LZ4" in caplog.text
    assert connector.descriptions(tables.reports)["meta"]["COMPRESSION"] == "GZ"
    connector.close()


@pytest.mark.hbase
def test_the_longest_prefix_makes_tables_that_hbase_can_create_and_read(hbase: LocalHBase) -> None:
    connector = SchemaReader([find_gateway(hbase.host, hbase.port)], patience=5)
    prefix = resolve({"table_prefix": "p" * 100}).settings.table_prefix
    tables = Tables(prefix)
    assert ensure_tables(connector, tables) == [tables.data, tables.reports]
    assert connector.scan(tables.data, b"") == []
    connector.close()
    with pytest.raises(ConfigError, match="is longer than 100 letters"):
        resolve({"table_prefix": "p" * 101})
