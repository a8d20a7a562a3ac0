"""What one sees of a run: counts, bars on a terminal, a line a minute elsewhere, the log."""

from __future__ import annotations

import io
import logging
import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import START, a_meeting, a_scope

from f1hbase.cli import progress
from f1hbase.cli.logs import ConsoleHandler, LineFormatter, set_up_logging, wants_colour
from f1hbase.cli.progress import Bars, CountBar, Pace, make_counter, make_display
from f1hbase.credentials import register_secret
from f1hbase.errors import SetupError
from f1hbase.levels import PROGRESS, STATS, SUCCESS
from f1hbase.model.answers import RequestStats
from f1hbase.model.outcomes import Outcome, Quarantined, Receipt
from f1hbase.model.text import LONGEST_TEXT, duration
from f1hbase.model.units import Unit
from f1hbase.pipeline import display as lines
from f1hbase.pipeline.display import Display, LineCounter, Lines, log_summary
from f1hbase.pipeline.tally import Tally

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
LOG_LINE = re.compile(r"\[[A-Z]+\] \d{4}-\d\d-\d\d \d\d:\d\d:\d\d - .*")


class Terminal(io.StringIO):
    """A terminal whose width is that of a real (pseudo) one, and whose text can be looked at."""

    def __init__(self, columns: int = 80) -> None:
        super().__init__()
        self._ours, self._theirs = pty.openpty()
        termios.tcsetwinsize(self._theirs, (24, columns))

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._theirs

    def __del__(self) -> None:
        os.close(self._ours)
        os.close(self._theirs)
        super().__del__()


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "monotonic", clock)
    monkeypatch.setattr(lines, "monotonic", clock)
    return clock


@pytest.fixture(autouse=True)
def _colour_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture(autouse=True)
def _logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let caplog see every line, and undo what `set_up_logging` does to the whole process."""
    logger = logging.getLogger("f1hbase")
    before = (logger.level, logger.propagate, logger.handlers, logging.raiseExceptions)
    logger.propagate, logger.handlers = True, []
    logger.setLevel(logging.DEBUG)
    yield
    for handler in logger.handlers:
        handler.close()
    logger.level, logger.propagate, logger.handlers, logging.raiseExceptions = before


def outcome(endpoint: str = "laps", session_key: int | None = 9558, **values: Any) -> Outcome:
    return _outcome(Unit(endpoint, a_scope(session_key)), **values)


def failed(reason: str = "HTTP 503: no", driver: int | None = None, **values: Any) -> Outcome:
    return _outcome(Unit("pit", a_scope(), driver), error=reason, **values)


def _outcome(
    unit: Unit, *, rows: int = 0, requests: int = 0, retries: int = 0, size: int = 0, **values: Any
) -> Outcome:
    return Outcome(unit, START, receipt=Receipt(rows), stats=RequestStats(requests, retries, size), **values)


def failures(count: int) -> list[Outcome]:
    return [failed(driver=driver) for driver in range(count)]


def tally_of(*outcomes: Outcome, planned: int = 0) -> Tally:
    tally = Tally(planned=planned)
    for each in outcomes:
        tally.add(each)
    return tally


# --- counting ---


def test_a_stored_unit_counts_with_all_it_brought() -> None:
    tally = tally_of(
        outcome("laps", records=10, rows=9, duplicates=1, size=100, requests=2, retries=1),
        outcome("laps", records=5, rows=5, quarantined=2, size=50, requests=1),
        outcome("pit", records=1, rows=1, size=7, requests=1),
    )
    assert (tally.stored, tally.failed, tally.ended) == (3, 0, 3)
    assert (tally.records, tally.duplicates, tally.quarantined) == (16, 1, 2)
    assert (tally.bytes, tally.requests, tally.retries) == (157, 4, 1)
    assert tally.rows == {"laps": 14, "pit": 1}
    assert tally.all_rows == 15


def test_a_failed_unit_counts_its_requests_but_no_rows_and_is_named_with_its_reason() -> None:
    tally = tally_of(failed(rows=5, records=5, requests=4, retries=3, size=10))
    assert (tally.stored, tally.failed, tally.ended) == (0, 1, 1)
    assert (tally.all_rows, tally.records) == (0, 0)
    assert (tally.requests, tally.retries, tally.bytes) == (4, 3, 10)
    assert tally.failures == {Unit("pit", a_scope()): "HTTP 503: no"}


def test_sessions_are_counted_once_and_a_meeting_is_none() -> None:
    tally = tally_of(outcome(), outcome("pit"), outcome("laps", 9550), outcome("meetings", None))
    assert tally.sessions == {"2024#1240#9558", "2024#1240#9550"}


def test_a_failure_that_a_second_try_made_good_is_no_failure() -> None:
    tally = tally_of(failed(requests=4), outcome("pit", rows=3, requests=1))
    assert (tally.stored, tally.failed, tally.ended, tally.all_rows) == (1, 0, 1, 3)
    assert tally.requests == 5


@given(
    st.lists(
        st.sampled_from([outcome(rows=3), outcome("weather", rows=1), *failures(3)]), unique_by=lambda one: one.unit
    )
)
def test_every_unit_is_either_stored_or_failed(outcomes: list[Outcome]) -> None:
    tally = tally_of(*outcomes)
    assert tally.stored + tally.failed == tally.ended == len(outcomes)
    assert len(tally.failures) == tally.failed


def test_the_pace_is_that_of_the_last_half_minute(clock: Clock) -> None:
    pace = Pace()
    assert pace.update(0) == 0.0
    rates = []
    for second in range(1, 61):
        clock.now += 1
        rates.append(pace.update(100 * min(second, 20)))
    assert rates[9] == pytest.approx(100.0)
    assert rates[-1] == 0.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (3.14, "3.1 s"), (45, "45 s"), (99, "99 s"), (100, "2 min"), (720, "12 min"), (5940, "99 min"),
     (6000, "1 h 40 min"), (18_180, "5 h 03 min"), (360_000, "100 h 00 min")],
)  # fmt: skip
def test_a_length_of_time_reads_like_this(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# --- a line a minute ---


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == PROGRESS]


def test_without_a_terminal_there_is_one_line_a_minute(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    display = Lines(1)
    display.begin(a_meeting())
    overall = tally_of(outcome(rows=50), planned=10)
    for _ in range(10 * 60 * 5):
        clock.now += 0.2
        display.show(a_meeting(), overall, overall)
        display.tick(overall)
    assert len(lines_of(caplog)) == 10


def test_the_line_says_how_far_the_run_is_how_fast_and_how_long_it_will_take(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    display = Lines(4)
    for number in (1240, 1241):
        display.begin(a_meeting(number))
        display.show(a_meeting(number), tally_of(outcome(), planned=1), Tally())
    display.end(a_meeting())
    clock.now += 60
    # Two of four meetings have planned 2,000 units, so all will have about 4,000.
    display.tick(tally_of(*[outcome(rows=30, requests=1)] * 999, failed(requests=4), planned=2000))
    assert lines_of(caplog) == [
        "1/4 meetings, 1,000/4,000 units (25.0 %), 29,970 rows, 500 rows/s, 1,003 requests, 1 failed, about 3 min left"
    ]


def test_the_rate_is_that_of_the_last_minute(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    display = Lines(1)
    for rows in (6000, 6000):
        clock.now += 60
        display.tick(tally_of(outcome(rows=rows), planned=1))
    first, second = lines_of(caplog)
    assert " 100 rows/s" in first
    assert " 0 rows/s" in second


def test_before_any_unit_has_ended_the_line_promises_no_time(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    display = Lines(2)
    clock.now += 60
    display.tick(Tally())
    assert lines_of(caplog) == ["0/2 meetings, 0/0 units (0.0 %), 0 rows, 0 rows/s, 0 requests, 0 failed"]


def test_the_meeting_that_begins_is_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    Lines(1).begin(a_meeting(1240))
    assert "loading 2024 Silverstone Grand Prix (meeting 1240)" in caplog.text


def test_a_meeting_that_ends_before_its_units_have_is_not_done(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    display = Lines(2)
    for number, ended in ((1240, 3), (1241, 1)):
        meeting = a_meeting(number)
        display.begin(meeting)
        display.show(meeting, tally_of(*[outcome()] * ended, planned=3), Tally())
        display.end(meeting)
    clock.now += 60
    display.tick(Tally(planned=6))
    assert lines_of(caplog)[0].startswith("1/2 meetings, ")


# --- counting rows ---


def test_counting_rows_is_a_line_a_minute_where_there_is_no_terminal(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    counter = make_counter(3, "deleted")
    assert isinstance(counter, LineCounter)
    counter.begin("British Grand Prix, Race", 5000)
    counter.count(600)
    clock.now += 60
    counter.begin("Monaco Grand Prix, Race", 0)
    counter.close()
    assert lines_of(caplog) == ["session 2 of 3, 600 rows deleted, 10 rows/s"]


def test_counting_rows_is_a_bar_on_a_terminal_and_its_name_is_harmless(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Terminal(80)
    monkeypatch.setattr(progress, "terminal", lambda: stream)
    counter = make_counter(2, "counted")
    assert isinstance(counter, CountBar)
    counter.begin("\x1b[2JGrand\nPrix", 100)
    counter.count(150)
    counter.close()
    assert "\x1b[2J" not in stream.getvalue()
    assert r"1/2 \x1b[2JGrand\nPrix" in stream.getvalue()
    assert max(map(width, drawn(stream))) < 80


# --- bars ---


def drive(display: Display, clock: Clock | None = None) -> None:
    """Take a display through a run with more meetings, longer names and larger numbers than usual."""
    places = ["Silverstone", "São Paulo", "Spa-Francorchamps", "A very long name of a place indeed", "上海"]
    meetings = [a_meeting(1240 + number, place) for number, place in enumerate(places)]
    overall = Tally(planned=123_456)
    for meeting in meetings:
        display.begin(meeting)
    for _ in range(3):
        for meeting in meetings:
            mine = tally_of(*[outcome(rows=123_456_789)] * 3, *failures(1234), planned=50_000)
            overall.add(outcome(rows=123_456_789))
            overall.add(failed())
            if clock is not None:
                clock.now += 100_000
            display.show(meeting, mine, overall)
            display.tick(overall)
    for meeting in meetings:
        display.end(meeting)
    display.tick(overall)
    display.close()


def drawn(stream: io.StringIO) -> list[str]:
    """Return every line that was drawn, without colours and movements of the cursor."""
    return [line for line in re.split(r"[\r\n]", ESCAPE.sub("", stream.getvalue())) if line.strip()]


def width(text: str) -> int:
    return sum(2 if ord(character) > 0x2E80 else 1 for character in text)


@pytest.mark.parametrize("columns", [80, 120, 60])
def test_on_a_terminal_no_bar_is_so_wide_that_it_wraps(columns: int, clock: Clock) -> None:
    stream = Terminal(columns)
    drive(Bars(5, stream), clock)
    lines = drawn(stream)
    assert len(lines) > 20
    assert max(map(width, lines)) < columns


def test_there_is_a_bar_for_the_run_and_one_for_each_running_meeting(clock: Clock) -> None:
    stream = Terminal(120)
    bars = Bars(2, stream)
    bars.begin(a_meeting(1240, "Silverstone"))
    tally = tally_of(outcome(rows=1500), failed(), planned=8)
    bars.show(a_meeting(1240), tally, tally)
    text = "\n".join(drawn(stream))
    bars.close()
    assert re.search(r"0/2 meetings .* 2/16 units, 1.5k rows 0/s 1 failed", text)
    assert re.search(r"1240 Silverstone .* 25%\|.*\| 2/8 units, 1.5k rows 0/s 1 failed \[00:00<", text)


def test_a_narrow_terminal_shows_the_time_that_is_left_beside_large_numbers_and_a_bar(clock: Clock) -> None:
    stream = Terminal(80)
    bars = Bars(1, stream)
    bars.begin(a_meeting(1240, "Silverstone"))
    tally = tally_of(*[outcome(rows=123_456)] * 1000, *failures(12), planned=12_345)
    clock.now += 1
    bars.show(a_meeting(1240), tally, tally)
    last = drawn(stream)[-1]
    bars.close()
    assert re.fullmatch(r"0/1 meetings +8%\|.{4,}\| 1012/12345, 123.5M rows 123.5M/s 12 failed <\d\d:\d\d *", last)


def test_a_bar_never_shows_more_than_100_percent(clock: Clock) -> None:
    stream = Terminal()
    bars = Bars(1, stream)
    tally = tally_of(*[outcome()] * 7, planned=3)
    bars.show(a_meeting(), tally, tally)
    bars.close()
    assert "7/7, " in stream.getvalue()


def test_a_meeting_that_begins_takes_the_line_of_one_that_has_ended(clock: Clock) -> None:
    bars = Bars(3, Terminal())
    for key in (1, 2):
        bars.begin(a_meeting(key))
    bars.end(a_meeting(1))
    bars.begin(a_meeting(3))
    lines = {key: -bar.pos for key, bar in bars._bars.items()}
    bars.close()
    assert lines == {2: 2, 3: 1}


def test_a_meeting_that_was_never_begun_or_has_ended_does_no_harm(clock: Clock) -> None:
    bars = Bars(1, Terminal())
    bars.show(a_meeting(1), Tally(), Tally())
    bars.end(a_meeting(1))
    bars.close()


def test_the_bars_are_coloured_unless_no_color_is_set(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    colourful, plain = Terminal(), Terminal()
    drive(Bars(5, colourful))
    monkeypatch.setenv("NO_COLOR", "1")
    drive(Bars(5, plain))
    assert COLOUR.search(colourful.getvalue())
    assert not COLOUR.search(plain.getvalue())


def test_bars_are_for_a_terminal_and_lines_for_anything_else_and_for_the_quiet() -> None:
    on_terminal = make_display(1, Terminal())
    on_terminal.close()
    assert isinstance(on_terminal, Bars)
    assert isinstance(make_display(1, io.StringIO()), Lines)
    assert isinstance(make_display(1, Terminal(), quiet=True), Lines)


def test_where_there_is_no_terminal_nothing_is_drawn_no_carriage_return_and_no_colour(clock: Clock) -> None:
    stream = io.StringIO()
    set_up_logging(stream, None, verbose=True)
    drive(make_display(5, stream), clock)
    log_summary(tally_of(outcome(rows=3), failed()), meetings=5, complete=1, seconds=60)
    text = stream.getvalue()
    assert "\r" not in text
    assert "\x1b" not in text
    assert all(LOG_LINE.fullmatch(line) for line in text.splitlines())


# --- the log ---


def line_of(level: int = logging.ERROR, text: str = "no answer", *, colour: bool = False) -> str:
    record = logging.LogRecord("f1hbase", level, __file__, 1, text, None, None)
    return LineFormatter(colour=colour).format(record)


def test_a_line_of_the_log_reads_like_this(monkeypatch: pytest.MonkeyPatch) -> None:
    formatter = LineFormatter()
    monkeypatch.setattr(formatter, "converter", lambda _: (2024, 1, 15, 10, 30, 18, 0, 15, 0))
    record = logging.LogRecord("f1hbase", logging.ERROR, __file__, 1, "no answer within %d s", (60,), None)
    assert formatter.format(record) == "[ERROR] 2024-01-15 10:30:18 - no answer within 60 s"


@pytest.mark.parametrize(
    ("level", "name"),
    [(logging.DEBUG, "DEBUG"), (logging.INFO, "INFO"), (STATS, "STATS"), (PROGRESS, "PROGRESS"), (SUCCESS, "SUCCESS"),
     (logging.WARNING, "WARNING"), (logging.ERROR, "ERROR")],
)  # fmt: skip
def test_each_level_has_its_name_and_on_a_terminal_a_colour(level: int, name: str) -> None:
    assert line_of(level).startswith(f"[{name}] ")
    coloured = line_of(level, colour=True)
    assert COLOUR.match(coloured)
    assert COLOUR.sub("", coloured).startswith(f"[{name}] ")


@pytest.mark.parametrize(
    ("stream", "no_color", "wanted"),
    [(Terminal(), None, True), (Terminal(), "1", False), (Terminal(), "", True), (io.StringIO(), None, False)],
)
def test_colour_is_for_a_terminal_without_no_color(
    stream: io.StringIO, no_color: str | None, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    assert wants_colour(stream) is wanted


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, ["INFO", "STATS", "WARNING", "ERROR"]),
        ({"quiet": True}, ["WARNING", "ERROR"]),
        ({"verbose": True}, ["DEBUG", "INFO", "STATS", "WARNING", "ERROR"]),
    ],
    ids=["usual", "quiet", "verbose"],
)
def test_the_screen_shows_what_is_asked_for_and_the_file_has_all(
    options: dict[str, bool], shown: list[str], tmp_path: Path
) -> None:
    stream, file = io.StringIO(), tmp_path / "populate.log"
    set_up_logging(stream, file, **options)
    logger = logging.getLogger("f1hbase.somewhere")
    for level in (logging.DEBUG, logging.INFO, STATS, logging.WARNING, logging.ERROR):
        logger.log(level, "São Paulo")

    def levels(text: str) -> list[str]:
        return re.findall(r"^\[(\w+)\]", text, re.MULTILINE)

    assert levels(stream.getvalue()) == shown
    assert levels(file.read_text(encoding="utf-8")) == ["DEBUG", "INFO", "STATS", "WARNING", "ERROR"]


def test_the_log_file_is_appended_to_and_never_coloured(tmp_path: Path) -> None:
    file = tmp_path / "populate.log"
    file.write_text("from yesterday\n", encoding="utf-8")
    stream = Terminal()
    set_up_logging(stream, file)
    logging.getLogger("f1hbase").error("from today")
    first, second = file.read_text(encoding="utf-8").splitlines()
    assert first == "from yesterday"
    assert LOG_LINE.fullmatch(second)
    assert COLOUR.search(stream.getvalue())


def test_a_log_file_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(SetupError, match="it is a pipe that nobody reads"):
        set_up_logging(io.StringIO(), pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    set_up_logging(io.StringIO(), pipe)
    logging.getLogger("f1hbase.test").info("hello")
    assert os.read(reader, 1000).endswith(b" - hello\n")
    os.close(reader)


def test_a_log_file_that_cannot_be_written_is_named_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"cannot write the log file '.*': is a directory\..*--log-file"):
        set_up_logging(io.StringIO(), tmp_path)
    assert SetupError.exit_code == 2


def test_a_screen_that_is_gone_does_not_stop_the_load() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    set_up_logging(Gone(), None)
    logging.getLogger("f1hbase").error("still going")


def test_lines_are_written_above_the_bars_of_the_same_terminal(clock: Clock) -> None:
    stream = Terminal()
    bars = Bars(1, stream)
    handler = ConsoleHandler(stream)
    handler.emit(logging.LogRecord("f1hbase", logging.WARNING, __file__, 1, "the API is slow", None, None))
    bars.close()
    text = ESCAPE.sub("", stream.getvalue())
    line = next(line for line in text.splitlines() if "the API is slow" in line)
    assert LOG_LINE.fullmatch(line.rpartition("\r")[2])


@pytest.mark.parametrize("text", ["Grand\nPrix\n[SUCCESS] all loaded", "\x1b]0;owned\x07", "a\rb", "\u2028x", "\x9b2J"])
def test_whatever_a_text_from_outside_holds_a_record_is_one_line_without_control_characters(text: str) -> None:
    for line in (line_of(text="%s"), line_of(text=text), line_of(text=text * 1000)):
        assert LOG_LINE.fullmatch(line)
        assert line.isprintable()
        assert len(line) < 12_000


def test_a_secret_is_in_no_line_wherever_it_comes_from() -> None:
    register_secret("correct-horse-battery")
    for text in ("HTTP 500: Bearer correct-horse-battery", "correct-horse-battery" * 3):
        assert "horse" not in line_of(text=text)
    try:
        raise ValueError("correct-horse-battery")
    except ValueError:
        record = logging.LogRecord("f1hbase", logging.ERROR, __file__, 1, "oh", None, sys.exc_info())
    assert "horse" not in LineFormatter().format(record)


def test_a_stack_trace_keeps_its_lines_below_the_record_and_cannot_forge_one() -> None:
    try:
        raise ValueError("first\n[SUCCESS] all loaded\x1b[2J")
    except ValueError:
        record = logging.LogRecord("f1hbase", logging.ERROR, __file__, 1, "oh", None, sys.exc_info())
    first, *rest = LineFormatter().format(record).splitlines()
    assert LOG_LINE.fullmatch(first)
    assert all(line.startswith("  ") and line.isprintable() for line in rest)


def test_what_goes_into_the_reports_is_one_harmless_line_too() -> None:
    bad = "HTTP 500: \x1b[2J\n[SUCCESS]" + "x" * 50_000
    aside = Quarantined("2024#1240#9558", "laps", "{}", "0", bad, START)
    for text in (failed(bad).error, outcome().failed(bad).error, aside.reason):
        assert text is not None
        assert text.isprintable()
        assert len(text) < LONGEST_TEXT + 100


@pytest.mark.parametrize(
    ("redirection", "same"),
    [("> {log} 2>&1", True), (">> {log} 2>&1", True), ("> {log}", True), (">> {log} 2> other", True),
     ("2> {log} > other", False), ("2>> {log} > other", False), ("> ./{log} 2>&1", True), ("> linked 2>&1", True)],
)  # fmt: skip
def test_a_log_file_that_is_the_output_as_well_loses_no_line_and_has_none_twice(
    redirection: str, same: bool, tmp_path: Path
) -> None:
    log = tmp_path / "populate.log"
    log.write_text("from yesterday\n", encoding="utf-8")
    (tmp_path / "linked").hardlink_to(log)
    code = """
import logging, sys
from pathlib import Path
from f1hbase.cli.logs import set_up_logging
set_up_logging(sys.stdout, Path("populate.log"))
for number in range(200):
    logging.getLogger("f1hbase.x").info("line %d", number)
    if number % 50 == 0:
        print(f"error {number}", file=sys.stderr)
"""
    command = f"{sys.executable} -c '{code}' {redirection.format(log='populate.log')}"
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True, env=os.environ | {"PYTHONPATH": str(Path.cwd())})
    lines = log.read_text(encoding="utf-8").splitlines()
    told = [line.partition(" - ")[2] for line in lines]
    assert [line for line in told if line.startswith("line ")] == [f"line {number}" for number in range(200)]
    assert len([line for line in told if "log file" in line]) == 1, "it is said once"
    is_error = [line for line in lines if line.startswith("error ")]
    goes_there = "2>&1" in redirection or redirection.startswith("2>")
    assert is_error == ([f"error {number}" for number in range(0, 200, 50)] if goes_there else [])
    assert ("from yesterday" in lines) == (">>" in redirection)
    if not same:
        other = (tmp_path / "other").read_text(encoding="utf-8")
        assert other.count(" - line ") == 200


def test_a_log_file_that_is_the_output_s_own_pipe_has_no_line_twice(tmp_path: Path) -> None:
    code = "import logging, sys; from pathlib import Path; from f1hbase.cli.logs import set_up_logging; "
    code += "set_up_logging(sys.stdout, Path('/dev/stdout')); logging.getLogger('f1hbase').info('once')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("once") == 1


# --- the summary ---


def test_the_summary_counts_all_and_names_each_failure_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    tally = tally_of(
        outcome(rows=1_000_000, records=1_000_001, duplicates=1, requests=3, retries=1, size=2_500_000), failed()
    )
    log_summary(tally, meetings=3, complete=1, seconds=120)
    stats = [record.getMessage() for record in caplog.records if record.levelno == STATS]
    wanted = [
        "3 meetings (1 of them complete before), 1 session worked on in 2 min",
        "units: 1 stored, 1 failed",
        "requests: 3, 1 of them retries; 2.5 MB received",
        "records: 1,000,001, 1 duplicate, 0 in quarantine",
        "rows: 1,000,000 (8,333 rows/s)",
        "  laps                    1,000,000",
    ]
    assert [line[: len(start)] for line, start in zip(stats, wanted, strict=True)] == wanted
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR] == [
        "not loaded: pit session 9558: HTTP 503: no"
    ]


def test_of_many_failures_the_summary_shows_20_and_says_how_many_more_there_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log_summary(tally_of(*failures(25)), meetings=1, complete=0, seconds=0)
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 21
    assert errors[-1] == "not loaded: 5 more; 'status' lists them all"


def test_a_failure_with_a_percent_sign_is_shown_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    log_summary(tally_of(failed("100%d")), meetings=1, complete=0, seconds=1)
    assert "100%d" in caplog.text
