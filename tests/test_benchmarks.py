"""The parts of the benchmarks that need no server: records, the naive way's cells, frames, medians, the page."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from happybase.connection import THRIFT_PROTOCOLS
from Hbase_thrift import Hbase
from thriftpy2.transport.memory import cymemory

from benchmarks import contest, naive, records
from benchmarks.contenders import LIMIT, NAIVE, read_frames, write_frames
from benchmarks.errors import BenchmarkError
from benchmarks.measuring import Course, Measurement
from benchmarks.memory import quarters
from benchmarks.results import Spread, machine, markdown_table, number, ratio, replace_part, summarize
from benchmarks.season import units_of, write_season
from benchmarks.studies import STUDIES
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.stores.hbase.codec import encode

_ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> records.Records:
    return records.simulated(tmp_path_factory.mktemp("made") / "records", rows=6_000, meetings=2)


def test_the_naive_way_puts_the_same_rows_and_cells(made: records.Records) -> None:
    count = 0
    for body in records.bodies(made.meetings):
        for record in json.loads(body.json):
            row = encode(ENDPOINTS["car_data"], records.YEAR, record)
            assert (naive.row_key(records.YEAR, record), naive.cells(record)) == (row.key, row.cells)
            assert len(row.cells) == records.CELLS
            count += 1
    assert count == made.car_data


def test_every_process_has_its_share_of_the_meetings(made: records.Records) -> None:
    assert made.shares(1) == [made.meetings]
    assert made.shares(2) == [made.meetings[:1], made.meetings[1:]]


def test_as_many_records_as_asked_for_about(made: records.Records) -> None:
    assert len(made.meetings) == 2
    assert 4_000 < made.car_data < 9_000
    assert not list(made.folder.rglob("location*"))


def test_slices_of_a_real_session_are_meetings_of_their_own(made: records.Records, tmp_path: Path) -> None:
    (source, _) = made.meetings
    real = records.real(source.folder, tmp_path / "real", rows=1_000, meetings=3)
    assert [meeting.car_data for meeting in real.meetings] == [333] * 3
    keys = [(meeting.session.meeting_key, meeting.session.session_key) for meeting in real.meetings]
    assert len(set(keys)) == 3
    for body in records.bodies(real.meetings):
        for record in json.loads(body.json):
            assert (record["meeting_key"], record["session_key"]) == (
                body.session.meeting_key,
                body.session.session_key,
            )


def test_clones_differ_in_their_keys_alone(made: records.Records, tmp_path: Path) -> None:
    model = made.meetings[0]
    clones = records.cloned(model, tmp_path / "clones", meetings=3).meetings
    assert [clone.car_data for clone in clones] == [model.car_data] * 3
    first, _, third = ([json.loads(body.json) for body in records.bodies([clone])] for clone in clones)
    assert first == [json.loads(body.json) for body in records.bodies([model])]
    for ours, theirs in zip(first, third, strict=True):
        keys = {"meeting_key": model.session.meeting_key + 2, "session_key": (model.session.session_key or 0) + 2}
        assert theirs == [record | keys for record in ours]


def test_frames_are_calls_that_put_every_row_once(made: records.Records, tmp_path: Path) -> None:
    write_frames(tmp_path / "frames", "t_f1_data", made.meetings[:1], 1000)
    expected = {
        naive.row_key(records.YEAR, record): naive.cells(record)
        for body in records.bodies(made.meetings[:1])
        for record in json.loads(body.json)
    }
    found: dict[bytes, dict[bytes, bytes]] = {}
    for rows, frame in read_frames(tmp_path / "frames"):
        protocol: Any = THRIFT_PROTOCOLS["binary"](cymemory.TCyMemoryBuffer(frame))
        protocol.read_message_begin()
        call = Hbase.mutateRows_args()
        call.read(protocol)
        assert call.tableName in (b"t_f1_data", "t_f1_data")
        assert len(call.rowBatches) == rows <= 1000
        for batch in call.rowBatches:
            assert all(mutation.writeToWAL for mutation in batch.mutations)
            assert _bytes(batch.row) not in found
            found[_bytes(batch.row)] = {_bytes(one.column): _bytes(one.value) for one in batch.mutations}
    assert found == expected


def _bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value


def test_runs_are_summarized_by_their_medians() -> None:
    runs = [
        Measurement(1000, seconds, {"clients": cpu}, {"client": peak})
        for seconds, cpu, peak in ((1.0, 1.0, 5), (0.5, 9.0, 7), (2.0, 2.0, 6))
    ]
    summary = summarize(runs)
    assert (summary.rate.median, summary.rate.low, summary.rate.high) == (1000, 500, 2000)
    assert summary.cpu == {"clients": 200.0}  # for 100,000 rows
    assert summary.peak == {"client": 7}


@pytest.mark.parametrize(
    ("one", "other", "text"),
    [(850.0, 1000.0, "0.85"), (40_000.0, 549.0, "73"), (1.0, 0.0, "-")],
)
def test_ratios_are_of_medians(one: float, other: float, text: str) -> None:
    assert ratio(Spread((one, one * 2, 0.0)), Spread((other, other * 3, 0.0))) == text


def test_there_is_no_ratio_to_what_did_not_run() -> None:
    assert ratio(Spread((1.0,)), None) == "-"


@pytest.mark.parametrize(
    ("value", "text"), [(48_123.4, "48,123"), (12.34, "12.3"), (0.456, "0.46"), (0, "0"), (None, "-")]
)
def test_numbers_are_for_people(value: float | None, text: str) -> None:
    assert number(value) == text


class _Contender:
    """Takes part without doing anything, and keeps the order of the runs."""

    def __init__(self, kind: str, processes: int, seconds: float, diary: list[str]) -> None:
        self.kind, self.name, self.processes = kind, f"{kind}, {seconds} s", processes
        self._seconds, self._diary = seconds, diary

    def prepare(self) -> None:
        self._diary.append("prepare")

    def run(self) -> Measurement:
        self._diary.append(self.kind)
        return Measurement(100, self._seconds, {"clients": 1.0}, {"client": 50_000_000})

    def check(self) -> None:
        self._diary.append("check")


def test_contenders_run_in_turns_and_the_warm_up_is_checked_and_not_counted() -> None:
    diary: list[str] = []
    everybody = [_Contender("a", 1, 1.0, diary), _Contender("b", 1, 1.0, diary)]
    runs = contest.compete(everybody, rounds=2, warm_up=True, tell=lambda _: None)
    assert [one for one in diary if one != "prepare"] == ["b", "check", "a", "check", "a", "b", "b", "a"]
    assert [len(one) for one in runs] == [2, 2]


def test_the_best_limit_is_what_the_others_are_compared_with() -> None:
    diary: list[str] = []
    everybody = [
        _Contender(LIMIT, 1, 0.010, diary),
        _Contender(LIMIT, 2, 0.004, diary),
        _Contender(LIMIT, 2, 0.002, diary),
        _Contender("rows", 2, 0.0025, diary),
        _Contender(NAIVE, 1, 0.2, diary),
    ]
    runs = contest.compete(everybody, rounds=1, warm_up=False, tell=lambda _: None)
    lines = contest.report(everybody, runs).splitlines()
    rows = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:]] for line in lines[2:6]}
    assert list(rows) == ["limit, 0.01 s", "limit, 0.002 s", "rows, 0.0025 s", "naive, 0.2 s"]  # not the slower frames
    assert rows["rows, 0.0025 s"][:5] == ["2", "40,000", "40,000 to 40,000", "0.80", "80"]


def test_a_table_is_aligned() -> None:
    assert markdown_table(["what", "n"], [["a", "1,000"]]) == (
        "| what |     n |\n"
        "| ---- | ----: |\n"
        "| a    | 1,000 |"
    )  # fmt: skip


_PAGE_TEXT = "before\n<!-- a: begin -->\nold\n<!-- a: end -->\nbetween\n<!-- b: begin -->\n<!-- b: end -->\nafter\n"


def test_only_the_generated_part_of_a_page_is_replaced() -> None:
    page = replace_part(_PAGE_TEXT, "a", "new\n")
    assert page == _PAGE_TEXT.replace("\nold\n", "\n\nnew\n\n")
    assert replace_part(page, "a", "new") == page


@pytest.mark.parametrize("page", ["", _PAGE_TEXT * 2, "<!-- a: end -->\n<!-- a: begin -->\n"])
def test_a_page_without_the_part_is_refused(page: str) -> None:
    with pytest.raises(BenchmarkError, match="a: begin"):
        replace_part(page, "a", "new")


def test_the_page_has_a_part_for_each_study() -> None:
    page = (_ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    for study in STUDIES:
        assert replace_part(page, study, "x") != page


def test_the_machine_is_told_without_its_name_or_paths() -> None:
    text = machine("HBase 2.5", now=datetime(2026, 1, 2, tzinfo=UTC))
    assert "HBase 2.5" in text
    assert text.endswith("2026-01-02")
    assert str(_ROOT) not in text


def test_quarters_of_a_course_are_medians() -> None:
    assert quarters(Course("worker", rss=[1, 9, 2, 5, 5, 5, 5, 5, 7, 8, 90, 8])) == (2, 8)


def test_a_season_has_the_units_of_a_season(tmp_path: Path) -> None:
    plans = list(write_season(tmp_path, 2))
    units = [unit for plan in plans for unit in units_of(plan)]
    assert len({unit.key for unit in units}) == len(units)
    assert 95_000 < len(units) / 2 * 24 < 105_000
