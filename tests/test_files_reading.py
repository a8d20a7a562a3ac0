"""Files that are none, or larger than any: named, not waited for, and never as a whole in memory."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from files_zone import (
    MEETINGS,
    RACE,
    SESSIONS,
    destination_at,
    fetch_all,
    fill,
    json_answer,
    open_source,
    reader_at,
    store,
    whole,
)
from obstore.store import LocalStore

from f1hbase.model.times import LONG_AGO, moment_of
from f1hbase.model.units import LARGEST_KEY, is_key, is_year, parse_scope
from f1hbase.serve.file_store import FileStore, RecordFilesError
from f1hbase.sources.stored import UnreadableError
from f1hbase.stores.files import packing
from f1hbase.stores.files.clients import ObstoreClient
from f1hbase.stores.files.manifests import manifest_path
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.packing import LARGEST_OBJECT_BYTES, LONGEST_LINE_BYTES, DamagedError, pack, unpack
from f1hbase.stores.files.reading import cut_lines, lines_of, open_file, unpacked
from f1hbase.stores.files.urls import parse_location

LAPS = [{"meeting_key": 1240, "session_key": 9558, "driver_number": 44, "lap_number": lap} for lap in (1, 2)]


def bomb(size: int) -> bytes:
    """Return gzip that unpacks to so many spaces."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    parts = [deflate.compress(b" " * 1_000_000) for _ in range(size // 1_000_000)]
    return b"".join((*parts, deflate.flush()))


def folder_with_laps(folder: Path) -> Path:
    folder.mkdir()
    for name, records in (("sessions", SESSIONS), ("meetings", MEETINGS), ("laps", LAPS)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def long_line(path: Path) -> None:
    path.write_bytes(b'{"x": "' + b"y" * LONGEST_LINE_BYTES + b'"}\n')


def packed_line(path: Path) -> None:
    path.unlink()
    path.with_suffix(".jsonl.gz").write_bytes(bomb(64_000_000))


BAD: dict[Callable[[Path], None], str] = {
    pipe: "pipe or a device",
    device: "pipe or a device",
    long_line: "line 1, has more than 8,000,000 bytes",
    packed_line: "line 1, has more than 8,000,000 bytes",
}


@pytest.mark.parametrize("make", BAD)
def test_a_bad_file_of_json_lines_is_named_and_the_rest_is_read(tmp_path: Path, make: Callable[[Path], None]) -> None:
    folder = folder_with_laps(tmp_path / "data")
    assert [record for some in reader_at(folder).read(whole("laps")) for record in some] == LAPS
    make(folder / "laps.jsonl")
    reader = reader_at(folder)
    assert reader.sessions() == SESSIONS
    with pytest.raises(UnreadableError, match=BAD[make]):
        list(reader.read(whole("laps")))


@pytest.mark.parametrize("make", BAD)
def test_serve_does_not_begin_with_a_bad_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    folder = folder_with_laps(tmp_path / "data")
    make(folder / "laps.jsonl")
    with pytest.raises(RecordFilesError, match=BAD[make]):
        FileStore.load([folder])


def test_lines_come_as_they_are_and_long_ones_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"a\n\n" + b"b" * (LONGEST_LINE_BYTES * 2) + b"\n" + b"c" * LONGEST_LINE_BYTES)
    with open_file(path) as file:
        assert [len(line) for line in cut_lines(unpacked(file))] == [2, 1, LONGEST_LINE_BYTES + 1, LONGEST_LINE_BYTES]
    path.write_bytes(gzip.compress(b"a\nb"))
    with open_file(path) as file:
        assert list(lines_of(unpacked(file), path)) == [b"a\n", b"b"]


def test_no_object_unpacks_to_more_than_any_has(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DamagedError, match="more than 0 bytes"):
        unpack(pack(b"x"), -1)
    monkeypatch.setattr(packing, "LARGEST_OBJECT_BYTES", 1_000)
    assert unpack(pack(b"x" * 1_000), 1 << 40) == b"x" * 1_000
    with pytest.raises(DamagedError, match="more than 1,000 bytes"):
        unpack(pack(b"x" * 1_001), 1 << 40)


def test_an_object_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    fill(tmp_path)
    (path,) = (path for path in tmp_path.glob("source=*/**/*.gz") if "endpoint=laps" in str(path))
    os.truncate(path, LARGEST_OBJECT_BYTES + 1)  # sparse
    with pytest.raises(UnreadableError, match="it has 128,000,001 bytes"):
        list(reader_at(tmp_path).read(whole("laps")))
    assert sum(map(len, reader_at(tmp_path).read(whole("car_data")))) == 9_000


def test_json_lines_of_a_zone_are_read_one_after_another(tmp_path: Path) -> None:
    store(destination_at(tmp_path), whole("laps"), LAPS, None)
    assert [record for some in reader_at(tmp_path).read(whole("laps")) for record in some] == LAPS
    store(destination_at(tmp_path), whole("pit"), [], json_answer("pit", []))
    assert list(reader_at(tmp_path).read(whole("pit"))) in ([], [[]])


@pytest.mark.parametrize("key", [LARGEST_KEY + 1, 10**300, -1, 1.0, True, "x", None, float("inf")])
def test_what_is_no_key_is_none(key: object) -> None:
    assert not is_key(key)
    assert is_key(LARGEST_KEY)
    assert not is_year(key)
    assert parse_scope(f"2024#{key}#1") is None
    assert parse_scope(RACE.prefix) is not None


# Listing a folder


def test_a_folder_is_listed_as_its_store_lists_it(tmp_path: Path) -> None:
    fill(tmp_path)
    for name in ("a b", "50%25", "é", "x#y", "a/b/c~", ".hidden", "being-written#3"):
        path = tmp_path / "more" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "link").symlink_to(tmp_path / "more" / "a")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    objects, store = Objects(parse_location(str(tmp_path))), ObstoreClient(LocalStore(tmp_path))
    for prefix in ("", "more", "_state/units"):
        found = {info.path: info for info in objects.under(prefix)}
        wanted = {info.path: info for info in store.list(prefix)}
        assert found.keys() == wanted.keys()
        assert all(found[path].size == info.size for path, info in wanted.items())
    assert objects.get("more/50%25") == b"50%25"
    assert list(objects.under("nowhere")) == []
    everything = sorted(info.path for info in objects.under(""))
    (tmp_path / "more/loop").symlink_to(tmp_path)
    assert sorted(info.path for info in objects.under("")) == everything


def test_a_name_that_is_no_utf8_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path)
    with open(os.fsencode(tmp_path) + b"/b\xffd", "wb"):  # noqa: PTH123 - a name that no text has
        pass
    assert sum(map(len, reader_at(tmp_path).read(whole("laps")))) == 3
    assert list(Objects(parse_location(str(tmp_path))).under(""))
    assert "as its name is no UTF-8" in caplog.text


def test_a_pipe_in_place_of_a_manifest_fails_its_unit_alone(tmp_path: Path) -> None:
    fill(tmp_path)
    pipe(tmp_path / manifest_path(whole("laps")))
    answers = asyncio.run(fetch_all(open_source(tmp_path), [whole("laps"), whole("car_data")]))
    errors = {answer.unit.endpoint: answer.error for answer, _ in answers}
    assert "pipe or a device" in (errors["laps"] or "")
    assert errors["car_data"] is None


@pytest.mark.parametrize("make", [pipe, device])
def test_a_pipe_in_place_of_a_file_of_an_extractor_is_named(
    tmp_path: Path, make: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    for plural, records in (("sessions", SESSIONS[1:]), ("laps", LAPS), ("weather", [{**LAPS[0], "date": "x"}])):
        (tmp_path / f"{plural}_2024-07-07_Silverstone_Race.json").write_text(json.dumps(records))
    make(tmp_path / "laps_2024-07-07_Silverstone_Race.json")
    reader = reader_at(tmp_path)
    assert "laps_2024-07-07_Silverstone_Race.json' cannot be read: it is a pipe" in caplog.text
    with pytest.raises(UnreadableError, match="pipe or a device"):
        list(reader.read(whole("laps")))
    assert list(reader.read(whole("weather")))


def test_a_file_by_date_of_no_time_is_foreign(tmp_path: Path) -> None:
    folder = tmp_path / "raw/2024-07-07/openf1_laps"
    folder.mkdir(parents=True)
    for name in ("1720360800", "99999999999999999999", "99999999999"):
        (folder / f"{name}.json").write_text(json.dumps(LAPS))
    (folder / "1720360801.json").write_text(json.dumps([{"meeting_key": 10**30, "session_key": 1, "lap_number": 1}]))
    (state,) = (one for one in reader_at(tmp_path).units(RACE) if one.endpoint == "laps")
    assert state.fetched is not None
    assert [record for some in reader_at(tmp_path).read(whole("laps")) for record in some] == LAPS


def test_a_file_of_no_time_has_the_earliest() -> None:
    assert moment_of(1e30) == moment_of(float("nan")) == LONG_AGO
    assert moment_of(0).year == 1970
