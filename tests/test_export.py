"""`export`: files that hold exactly what is stored, written again only when that has changed."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hbase_server import LocalHBase
from samples import sample
from stored_weekend import KINDS, SESSION_ENDPOINTS, YEAR, alike, hbase_options, load, records, scopes, weekend
from tables import scan, values

import f1hbase
from f1hbase.errors import ConfigError
from f1hbase.frames.schemas import columns_of, schema_of
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.plans import Selection
from f1hbase.operations.export import forms
from f1hbase.operations.export.layout import file_path, manifest_path
from f1hbase.operations.export.run import ExportResult, export
from f1hbase.sources.files import open_reader
from f1hbase.stores.files.manifests import scope_manifests
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.urls import parse_location

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weekend(tmp_path_factory.getbasetemp())


def run(source: Path, target: Path, form: str = "parquet", **selection: Any) -> ExportResult:
    options = {"mode": "year", "year": (YEAR,)} | selection
    return export(
        open_reader(parse_location(str(source))), Objects(parse_location(str(target))), Selection(**options), form
    )


def query(text: str) -> duckdb.DuckDBPyRelation:
    """Return what DuckDB finds."""
    relation = duckdb.sql(text)
    assert relation is not None
    return relation


def written(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return when each file was written, and what is in it."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


@pytest.fixture(scope="module")
def tables(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    result = run(files, folder)
    assert result.exit_code == 0
    assert result.rows == {name: len(records(files, name)) for name in ENDPOINTS if records(files, name)}
    return folder


@pytest.mark.parametrize("endpoint", list(ENDPOINTS))
def test_every_reader_reads_the_same_as_the_api_said(tables: Path, files: Path, endpoint: str) -> None:
    names = [column.name for column in columns_of(endpoint)] + ["extra"]
    paths = sorted(tables.glob(f"{endpoint}/**/*.parquet"))
    if not paths:
        assert not records(files, endpoint)
        return
    wanted = [row for path in paths for row in pq.read_table(path, partitioning=None).to_pylist()]
    store = f1hbase.open(files)
    if endpoint == "meetings":
        said = store.meetings().to_pylist()
    else:
        keys = [scope.session_key for scope in scopes(files)]
        said = [row for key in keys if key is not None for row in store.session(key).read(endpoint).to_pylist()]
    assert wanted == said
    assert all(pq.read_schema(path).equals(schema_of(endpoint)) for path in paths)

    glob = f"{tables}/{endpoint}/**/*.parquet"
    relation = query(f"SELECT * FROM read_parquet('{glob}', hive_partitioning = true)")
    assert {"season", "meeting"} <= set(relation.columns)
    picked = relation.select(*(duckdb.ColumnExpression(name) for name in names)).to_arrow_table()
    assert _sorted(picked.cast(schema_of(endpoint)).to_pylist()) == _sorted(wanted)
    assert _sorted(pl.read_parquet(glob, hive_partitioning=True).select(names).to_dicts()) == _sorted(wanted)
    dataset = ds.dataset(tables / endpoint, partitioning="hive")
    assert _sorted(dataset.to_table(columns=names).to_pylist()) == _sorted(wanted)


def _sorted(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(row, default=lambda moment: moment.isoformat(), sort_keys=True) for row in rows)


def test_large_files_have_a_row_group_a_driver_with_statistics(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "_ONE_GROUP_ROWS", 100)
    run(files, tmp_path, endpoints=("car_data",))
    (path, *_) = sorted(tmp_path.glob("car_data/**/*.parquet"))
    metadata = pq.ParquetFile(path).metadata
    found = []
    for number in range(metadata.num_row_groups):
        columns = [metadata.row_group(number).column(place) for place in range(metadata.num_columns)]
        by_name = {column.path_in_schema: column for column in columns}
        assert {column.compression for column in columns} == {"ZSTD"}
        assert all(by_name[name].statistics.has_min_max for name in ("date", "speed", "session_key"))
        drivers = by_name["driver_number"].statistics
        assert drivers.min == drivers.max
        found.append(drivers.min)
    assert found == sorted({record["driver_number"] for record in records(files, "car_data")})
    assert metadata.metadata[b"f1hbase.state"] == b"complete"


def test_what_has_not_changed_is_not_written_again(files: Path, tmp_path: Path) -> None:
    first = run(files, tmp_path, endpoints=("laps", "stints", "drivers"))
    before = written(tmp_path)
    again = run(files, tmp_path, endpoints=("laps", "stints", "drivers"))
    assert (again.files, again.unchanged) == (0, first.files)
    assert written(tmp_path) == before
    race = scopes(files)[-1]
    lost, cut, torn = (tmp_path / file_path("parquet", name, race) for name in ("laps", "stints", "drivers"))
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:100])
    (tmp_path / manifest_path("parquet", "drivers", race)).write_text("{", encoding="utf-8")
    third = run(files, tmp_path, endpoints=("laps", "stints", "drivers"))
    assert (third.files, third.unchanged) == (3, first.files - 3)
    assert {name: data for name, (_, data) in written(tmp_path).items() if not name.startswith("_")} == {
        name: data for name, (_, data) in before.items() if not name.startswith("_")
    }
    assert torn.is_file()


def test_drivers_are_added_to_what_was_exported_and_never_taken_away(files: Path, tmp_path: Path) -> None:
    key = scopes(files)[-1].session_key
    one, two, *_ = sorted({record["driver_number"] for record in records(files, "laps", session_key=key)})
    selection: dict[str, Any] = {"mode": "manual", "year": (), "session_key": (key,), "endpoints": ("laps", "weather")}

    def drivers() -> set[int]:
        (path,) = tmp_path.glob("laps/**/*.parquet")
        return set(pq.read_table(path, partitioning=None)["driver_number"].to_pylist())

    run(files, tmp_path, drivers=(one,), **selection)
    assert drivers() == {one}
    run(files, tmp_path, drivers=(two,), **selection)
    assert drivers() == {one, two}
    assert run(files, tmp_path, drivers=(one,), **selection).files == 0
    run(files, tmp_path, **selection)
    whole = drivers()
    assert len(whole) > 2
    assert run(files, tmp_path, drivers=(one,), **selection).files == 0
    assert drivers() == whole


def test_what_is_half_loaded_is_exported_and_named(files: Path, tmp_path: Path) -> None:
    driver = records(files, "drivers")[0]["driver_number"]
    load(files, to=tmp_path / "zone", endpoint=["sessions", "meetings", "drivers"])
    load(files, to=tmp_path / "zone", endpoint="laps", driver=driver)
    result = run(tmp_path / "zone", tmp_path / "tables")
    assert set(result.partial) == {file_path("parquet", "laps", scope) for scope in scopes(files)}
    assert result.not_loaded == (len(SESSION_ENDPOINTS) - 3) * len(KINDS)
    path = tmp_path / "tables" / next(iter(result.partial))
    assert json.loads(pq.read_schema(path).metadata[b"f1hbase.missing"]) == ["whole session: not loaded"]
    load(files, to=tmp_path / "zone", endpoint="laps")
    result = run(tmp_path / "zone", tmp_path / "tables")
    assert (result.files, dict(result.partial)) == (len(KINDS), {})


def test_csv_has_what_the_tables_have(files: Path, tables: Path, tmp_path: Path) -> None:
    result = run(files, tmp_path, "csv")
    assert result.exit_code == 0
    for endpoint in ("laps", "intervals", "session_result", "car_data", "race_control"):
        for path in sorted(tmp_path.glob(f"{endpoint}/**/*.csv.gz")):
            parquet = tables / path.relative_to(tmp_path).with_name(f"{endpoint}.parquet")
            plain = (
                query(f"SELECT * FROM read_csv('{path}', all_varchar = true, hive_partitioning = false, header = true)")
                .to_arrow_table()
                .to_pylist()
            )
            rows = pq.read_table(parquet, partitioning=None).to_pylist()
            assert len(plain) == len(rows)
            for texts, row in zip(plain, rows, strict=True):
                assert {name: _read(texts[name], value) for name, value in row.items()} == row


def _read(text: str | None, like: Any) -> Any:
    if text is None or like is None:
        return text
    if isinstance(like, str):
        return text
    return type(like).fromisoformat(text) if hasattr(like, "isoformat") else json.loads(text)


def test_jsonl_holds_the_records_as_they_were_spelt(files: Path, tmp_path: Path) -> None:
    run(files, tmp_path, "jsonl", endpoints=("weather", "laps"))
    for endpoint in ("weather", "laps", "sessions", "meetings"):
        lines = (gzip.decompress(path.read_bytes()).splitlines() for path in tmp_path.rglob(f"{endpoint}.jsonl.gz"))
        found = [json.loads(line) for some in lines for line in some]
        assert alike(found) == alike(records(files, endpoint))


@pytest.fixture(scope="module")
def stored(hbase: LocalHBase, files: Path) -> dict[str, Any]:
    options = hbase_options(hbase, "export")
    load(files, **options)
    return options


def command(folder: Path, options: dict[str, Any], *arguments: str) -> subprocess.CompletedProcess[str]:
    settings = {f"F1HBASE_{name.upper()}": str(value) for name, value in options.items()}
    return subprocess.run(
        [sys.executable, "-m", "f1hbase", "export", *arguments], cwd=folder, capture_output=True, text=True,
        check=False, env=os.environ | settings | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.hbase
def test_the_tables_of_hbase_are_those_of_the_files(tables: Path, stored: dict[str, Any], tmp_path: Path) -> None:
    result = command(tmp_path, stored, "--to", "out", "--year", str(YEAR))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "all that is loaded of what was asked for is in 'out'" in result.stdout
    for path in sorted(tables.rglob("*.parquet")):
        mine = tmp_path / "out" / path.relative_to(tables)
        assert pq.read_table(mine, partitioning=None).equals(pq.read_table(path, partitioning=None))


@pytest.mark.hbase
def test_jsonl_is_loaded_again_to_the_same_table(hbase: LocalHBase, stored: dict[str, Any], tmp_path: Path) -> None:
    result = command(tmp_path, stored, "--to", "lines", "--format", "jsonl", "--year", str(YEAR))
    assert result.returncode == 0, result.stdout + result.stderr
    load(tmp_path / "lines", **hbase_options(hbase, "export_again"))
    assert values(scan(hbase.port, "export_again_f1_data")) == values(scan(hbase.port, "export_f1_data"))


@pytest.mark.hbase
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "say where the files go"),
        (["--to", "hbase"], 2, "say where the files go"),
        (["--to", "a", "--to", "b"], 2, "say where the files go"),
        (["--to", "out", "--format", "xlsx"], 2, "'xlsx' is not one of"),
        (["--to", "out", "--year", "2031"], 2, "has no session for --year 2031"),
        (["--to", "out", "--from", "nowhere"], 2, "there is no folder"),
        (["--to", "out", "--from", "openf1"], 2, "not offered for 'openf1'"),
        (["--to", "out", "--endpoint", "lapz"], 2, "did you mean 'laps'"),
    ],
)
def test_a_mistake_is_one_line(
    stored: dict[str, Any], tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    result = command(tmp_path, stored, *arguments)
    assert result.returncode == code
    assert words in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert not (tmp_path / "out").exists()


def test_a_landing_zone_is_no_place_for_an_export(files: Path, tmp_path: Path) -> None:
    load(files, to=tmp_path / "zone", endpoint=["sessions", "meetings"])
    with pytest.raises(ConfigError, match="is a landing zone"):
        run(files, tmp_path / "zone")


def test_a_damaged_object_is_named_and_the_rest_is_written(files: Path, tmp_path: Path) -> None:
    load(files, to=tmp_path / "zone", endpoint=["sessions", "meetings", "laps", "weather"])
    (damaged, *_) = sorted((tmp_path / "zone").rglob("*endpoint=weather*/**/*.gz")) or sorted(
        path for path in (tmp_path / "zone").rglob("*.gz") if "weather" in str(path)
    )
    damaged.write_bytes(b"nonsense")
    result = run(tmp_path / "zone", tmp_path / "tables")
    assert result.exit_code == 1
    assert result.rows["laps"] == len(records(files, "laps"))
    assert result.failures
    assert all("weather" in path for path in result.failures)


def test_a_file_of_which_a_manifest_cannot_be_read_stays_as_it_was(files: Path, tmp_path: Path) -> None:
    zone, tables = tmp_path / "zone", tmp_path / "tables"
    endpoints = ["sessions", "meetings", "laps", "weather"]
    load(files, to=zone, endpoint=endpoints)
    run(zone, tables)
    before = written(tables)
    race = scopes(files)[-1]
    (manifest,) = [path for path in (zone / scope_manifests(race)).iterdir() if path.name.startswith("laps__")]
    manifest.write_text("{", encoding="utf-8")
    result = run(zone, tables)
    laps = file_path("parquet", "laps", race)
    assert result.exit_code == 1
    assert set(result.failures) == {laps}
    assert manifest.name in result.failures[laps]
    assert "Load it there again" in result.failures[laps]
    assert written(tables) == before
    load(files, to=zone, endpoint=endpoints)
    assert run(zone, tables).exit_code == 0


def test_unusual_values_survive_parquet(tmp_path: Path) -> None:
    some = [
        sample("intervals"),
        sample("intervals", driver_number=1, gap_to_leader="+2 LAPS", new_field={"a": [1, None]}),
        sample("intervals", driver_number=2, gap_to_leader=[1], interval=None),
    ]
    content = forms.parquet("intervals", lambda make: [make(some)], {"f1hbase.state": "complete"})
    (tmp_path / "x.parquet").write_bytes(content.data)
    rows = query(
        f"SELECT gap_to_leader, gap_to_leader_text, interval_text, extra->>'$.new_field.a[0]' AS a, extra "
        f"FROM '{tmp_path}/x.parquet' ORDER BY driver_number"
    ).fetchall()
    assert rows == [
        (None, "+2 LAPS", "+1 LAP", "1", '{"new_field":{"a":[1,null]}}'),
        (None, None, None, None, '{"gap_to_leader":[1]}'),
        (41.019, None, "+1 LAP", None, None),
    ]
