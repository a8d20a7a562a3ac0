"""`plot`: what is drawn are the chart's numbers, and what cannot be drawn is one line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest
from hbase_server import LocalHBase
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from samples import sample
from stored_weekend import hbase_options, load, weekend
from test_charts import made

import f1hbase
from f1hbase import charts
from f1hbase.charts.colours import COMPOUNDS
from f1hbase.errors import ConfigError, F1HBaseError, SetupError
from f1hbase.frames.session import NotLoadedError
from f1hbase.operations.plot.request import FORMATS, KINDS, PlotRequest
from f1hbase.operations.plot.run import draw, plot
from f1hbase.operations.plot.style import DARK, LIGHT, Picture, plain, spread


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weekend(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def race(files: Path) -> charts.SessionTables:
    store = f1hbase.open(files)
    return charts.SessionTables(store.session(store.sessions()["session_key"].to_pylist()[-1]))


@pytest.fixture(scope="module")
def practice(files: Path) -> charts.SessionTables:
    store = f1hbase.open(files)
    return charts.SessionTables(store.session(store.sessions()["session_key"].to_pylist()[0]))


@pytest.fixture(scope="module")
def qualifying(files: Path) -> charts.SessionTables:
    store = f1hbase.open(files)
    return charts.SessionTables(store.session(store.sessions()["session_key"].to_pylist()[-2]))


def request(
    kind: str, *drivers: int, laps: tuple[int, ...] = (), output: str = "x.png", dark: bool = False
) -> PlotRequest:
    return PlotRequest(kind, drivers, laps, Path(output), dark)


def drawn(tables: charts.SessionTables, *what: object, **how: object) -> Picture:
    with plain():
        return draw(tables, request(*what, **how))  # type: ignore[arg-type]


def lines(figure: Figure, kind: str) -> dict[str, Line2D]:
    """Return the lines of a kind, by what follows it in their names."""
    return {
        str(line.get_gid()).removeprefix(f"{kind}-"): line
        for axes in figure.axes
        for line in axes.lines
        if str(line.get_gid()).startswith(f"{kind}-")
    }


def same(line: Line2D, x: object, y: object) -> bool:
    """Return whether a line goes through these points and no others."""
    drawn = (np.asarray(line.get_xdata(orig=True), float), np.asarray(line.get_ydata(orig=True), float))
    return all(
        np.array_equal(one, np.asarray(two, float), equal_nan=True) for one, two in zip(drawn, (x, y), strict=True)
    )


# --- the numbers ---


@pytest.mark.parametrize("session", ["race", "qualifying"])
def test_every_lap_time_is_drawn_once_at_its_time(session: str, request: pytest.FixtureRequest) -> None:
    tables: charts.SessionTables = request.getfixturevalue(session)
    chart = charts.lap_times(tables)
    figure = drawn(tables, "lap-times").figure
    (axes,) = figure.axes
    low, high = axes.get_ylim()
    for style in chart.drivers:
        timed = (chart.driver_number == style.number) & ~np.isnan(chart.seconds)
        fast, odd, beyond = (lines(figure, kind)[str(style.number)] for kind in ("laps", "outliers", "beyond"))
        shown = np.asarray(fast.get_ydata(), float)
        assert (np.asarray(beyond.get_ydata(), float) < high).all()
        at_their_time = np.concatenate([shown[~np.isnan(shown)], np.asarray(odd.get_ydata(), float)])
        slower = np.sort(chart.seconds[timed])[len(at_their_time) :]
        assert np.array_equal(np.sort(at_their_time), np.sort(chart.seconds[timed])[: len(at_their_time)])
        assert len(np.asarray(beyond.get_xdata())) == len(slower)
        assert (at_their_time > low).all()
        assert set(shown[~np.isnan(shown)]) == set(chart.seconds[timed & ~chart.outlier]) - set(slower)
        assert fast.get_color() == style.light
    (best,) = (text for text in axes.texts if text.get_gid() == "best")
    minutes, _, seconds = best.get_text().split()[1].rpartition(":")
    assert int(minutes or 0) * 60 + float(seconds) == pytest.approx(chart.best_seconds)


def test_positions_are_the_charts(race: charts.SessionTables, qualifying: charts.SessionTables) -> None:
    chart = charts.positions_by_lap(race)
    shown = lines(drawn(race, "positions").figure, "positions")
    assert len(shown) == len(chart.drivers)
    for style in chart.drivers:
        mine = chart.driver_number == style.number
        assert same(shown[str(style.number)], chart.lap_number[mine], chart.position[mine])
    chart = charts.positions_over_time(qualifying)
    shown = lines(drawn(qualifying, "positions").figure, "positions")
    last = np.nanmax(chart.seconds) / 60
    for style in chart.drivers:
        mine = chart.driver_number == style.number
        places = chart.position[mine]
        assert same(shown[str(style.number)], [*chart.seconds[mine] / 60, last], [*places, places[-1]])


def test_stints_are_bars_from_their_first_lap_to_their_last(race: charts.SessionTables) -> None:
    chart = charts.stints(race)
    (axes,) = drawn(race, "stints").figure.axes
    bars = {bar.get_gid(): bar for bar in axes.patches if isinstance(bar, Rectangle) and bar.get_gid()}
    rows = [style.number for style in chart.drivers]
    assert len(bars) == len(chart.driver_number)
    for at, number in enumerate(chart.driver_number):
        bar = bars[f"stint-{number}-{chart.stint_number[at]}"]
        assert (bar.get_x() + 0.5, bar.get_x() + bar.get_width() - 0.5) == (chart.lap_start[at], chart.lap_end[at])
        assert bar.get_y() + bar.get_height() / 2 == pytest.approx(rows.index(number))
        assert to_hex(bar.get_facecolor()) == COMPOUNDS[chart.compound[at]]
        assert bool(bar.get_hatch()) == (chart.tyre_age_at_start[at] > 0)
    assert [label.get_text() for label in axes.get_yticklabels()] == [style.acronym for style in chart.drivers]


def test_a_track_is_its_outline_in_the_colours_of_the_speed(race: charts.SessionTables) -> None:
    outline = charts.track_outline(race)
    figure = drawn(race, "track").figure
    (line,) = (
        one for one in figure.axes[0].collections if isinstance(one, LineCollection) and one.get_gid() == "outline"
    )
    points = np.array([segment[0] for segment in line.get_segments()])
    assert np.array_equal(points, np.column_stack([outline.x, outline.y])[:-1])
    colours = np.asarray(line.get_array())
    assert np.array_equal(colours, (outline.speed[:-1] + outline.speed[1:]) / 2, equal_nan=True)


def test_telemetry_is_the_traces(race: charts.SessionTables) -> None:
    first, second = (style.number for style in charts.lap_times(race).drivers[:2])
    chart = charts.lap_traces(race, [(first, None), (second, None)])
    figure = drawn(race, "telemetry", first, second).figure
    for name in ("delta", "speed", "throttle", "brake", "n_gear", "rpm", "drs"):
        shown = lines(figure, name)
        assert len(shown) == 2
        for trace in chart.laps:
            line = shown[f"{trace.driver.number}-{trace.lap_number}"]
            assert same(line, trace.distance, getattr(trace, name))
    alone = drawn(race, "telemetry", first).figure
    assert not lines(alone, "delta")
    assert len(alone.axes) == 6


def test_several_laps_of_one_driver_and_a_lap_for_each(practice: charts.SessionTables) -> None:
    chart = charts.lap_times(practice)
    usable = ~np.isnat(chart.date_start) & ~np.isnan(chart.seconds)
    laps = {style.number: chart.lap_number[usable & (chart.driver_number == style.number)] for style in chart.drivers}
    first, second = [number for number, own in laps.items() if len(own) > 1][:2]
    one, other = laps[first][:2].tolist()
    shown = lines(drawn(practice, "telemetry", first, laps=(other, one)).figure, "speed")
    assert list(shown) == [f"{first}-{other}", f"{first}-{one}"]
    looks = {(line.get_color(), line.get_linestyle()) for line in shown.values()}
    assert len(looks) == 2
    common = int(next(lap for lap in laps[first] if lap in laps[second]))
    shown = lines(drawn(practice, "telemetry", first, second, laps=(common,)).figure, "speed")
    assert list(shown) == [f"{first}-{common}", f"{second}-{common}"]
    single = int(laps[second][-1])
    shown = lines(drawn(practice, "telemetry", second, first, laps=(single, one)).figure, "speed")
    assert list(shown) == [f"{second}-{single}", f"{first}-{one}"]


@pytest.mark.parametrize("kind", ["lap-times", "positions", "stints"])
def test_some_drivers_only(race: charts.SessionTables, kind: str) -> None:
    style = charts.lap_times(race).drivers[1]
    figure = drawn(race, kind, style.number, dark=True).figure
    words = {text.get_text() for axes in figure.axes for text in [*axes.texts, *axes.get_yticklabels()]}
    words |= {text.get_text() for legend in figure.legends for text in legend.get_texts()}
    others = {one.acronym for one in charts.lap_times(race).drivers} - {style.acronym}
    assert style.acronym in words
    assert not others & words
    assert to_hex(figure.get_facecolor()) == DARK.ground != LIGHT.ground


# --- files ---


def test_the_same_picture_is_the_same_file(race: charts.SessionTables, tmp_path: Path) -> None:
    for suffix in FORMATS:
        once, again = (tmp_path / f"{name}.{suffix}" for name in ("once", "again"))
        for path in (once, again):
            done = plot(race.session, PlotRequest("stints", (), (), path))
            assert done.output == path
        assert once.read_bytes() == again.read_bytes()
    assert once.stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert (tmp_path / "once.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "once.pdf").read_bytes().startswith(b"%PDF")
    svg = ET.parse(tmp_path / "once.svg").getroot()
    assert any(element.get("id", "").startswith("stint-") for element in svg.iter())
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{name}.{suffix}" for name in ("once", "again") for suffix in FORMATS
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_settings_of_the_user_and_names_like_formulas_change_nothing(tmp_path: Path) -> None:
    lap = sample("laps", driver_number=1, lap_number=1, date_start="2024-07-07T14:00:00+00:00", lap_duration=90.0)
    driver = sample("drivers", driver_number=1, name_acronym="$\\frac{", team_colour="nonsense", team_name="$")
    session = made(tmp_path, laps=[lap], drivers=[driver])
    before = mpl.rcParams["font.size"]
    with mpl.rc_context({"font.size": 40, "axes.facecolor": "red", "text.usetex": False}):
        plot(session, PlotRequest("lap-times", (), (), tmp_path / "odd.png"))
        assert mpl.rcParams["font.size"] == 40
    plot(session, PlotRequest("lap-times", (), (), tmp_path / "usual.png"))
    assert (tmp_path / "odd.png").read_bytes() == (tmp_path / "usual.png").read_bytes()
    assert mpl.rcParams["font.size"] == before


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_draw_is_an_error_and_leaves_the_file_as_it_was(tmp_path: Path, kind: str) -> None:
    output = tmp_path / "old.png"
    output.write_bytes(b"old")
    with pytest.raises(NotLoadedError, match=r"there is nothing to draw: .*not loaded") as error:
        plot(made(tmp_path), PlotRequest(kind, (), (), output))
    assert error.value.exit_code == 2
    assert output.read_bytes() == b"old"


BAD: dict[str, tuple[PlotRequest, type[F1HBaseError], str]] = {
    "kind": (PlotRequest("laps", (), (), Path("x.png")), ConfigError, "no plot 'laps'; there are lap-times"),
    "format": (PlotRequest("track", (), (), Path("x.gif")), ConfigError, r"must end in one of .png, .svg"),
    "no format": (PlotRequest("track", (), (), Path("png")), ConfigError, r"must end in one of"),
    "lap": (PlotRequest("stints", (), (3,), Path("x.png")), ConfigError, "leave out --lap"),
    "whose lap": (PlotRequest("track", (), (3,), Path("x.png")), ConfigError, "say whose with --driver"),
    "tracks": (PlotRequest("track", (1, 2), (), Path("x.png")), ConfigError, "one --driver"),
    "laps": (PlotRequest("telemetry", (1, 2), (1, 2, 3), Path("x.png")), ConfigError, "3 laps of 2 drivers"),
    "many": (PlotRequest("telemetry", tuple(range(1, 20)), (), Path("x.png")), ConfigError, "8 laps at"),
    "folder": (PlotRequest("track", (), (), Path("no/x.png")), SetupError, "there is no folder"),
    "a folder": (PlotRequest("track", (), (), Path("made.png")), SetupError, "it is a folder"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_makes_no_sense_is_one_line(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made.png").mkdir()
    monkeypatch.chdir(tmp_path)
    asked, kind, words = BAD[name]
    with pytest.raises(kind, match=words) as error:
        asked.check()
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)


def test_unknown_drivers_and_laps_name_those_there_are(race: charts.SessionTables, tmp_path: Path) -> None:
    known = charts.lap_times(race).drivers[0].number
    for kind in KINDS:
        with pytest.raises(NotLoadedError, match=r"there is no driver 98 in session .*; there are "):
            plot(race.session, PlotRequest(kind, (98,), (), tmp_path / "x.png"))
    for kind in ("track", "telemetry"):
        with pytest.raises(NotLoadedError, match=r"has no lap 999 .* has laps 1 to"):
            plot(race.session, PlotRequest(kind, (known,), (999,), tmp_path / "x.png"))
    assert not list(tmp_path.iterdir())


@given(st.lists(st.floats(1, 20), max_size=12), st.floats(0.5, 2))
def test_labels_keep_their_order_and_do_not_touch(wanted: list[float], apart: float) -> None:
    places = spread(wanted, apart)
    order = sorted(range(len(wanted)), key=lambda at: wanted[at])
    moved = [places[at] for at in order]
    assert all(after - before >= apart * (1 - 1e-9) for before, after in pairwise(moved))
    if all(wanted[b] - wanted[a] >= apart for a, b in pairwise(order)):
        assert places == pytest.approx(wanted)


# --- the command ---


def run(folder: Path, *arguments: str, exit_code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "f1hbase", "plot", *arguments], cwd=folder, capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == exit_code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_command_draws_and_says_what_is_missing(files: Path, tmp_path: Path, race: charts.SessionTables) -> None:
    part = tmp_path / "part"
    shutil.copytree(files, part)
    for path in part.rglob("race_control.jsonl.gz"):
        path.unlink()
    key = str(race.session.key)
    told = run(tmp_path, "lap-times", "--session-key", key, "--from", str(part), "-o", "laps.svg", "--dark")
    assert told.splitlines() == [f"laps.svg: lap-times of {race.session.scope.year} {race.session.name}", *_NOTES]
    assert ET.parse(tmp_path / "laps.svg")
    assert "say which session" in run(tmp_path, "stints", "--from", str(part), "-o", "x.png", exit_code=2)
    told = run(tmp_path, "stints", "--from", str(part), "-o", "x.png", "--session-key", "1", exit_code=2)
    assert "there is no session 1 in " in told


_NOTES = ["missing: race_control: not loaded"]


def test_without_matplotlib_the_line_that_installs_it_is_said(files: Path, tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ModuleNotFoundError('no', name='matplotlib')")
    told = run(tmp_path, "stints", "--session-key", "1", "--from", str(files), "-o", "x.png", exit_code=2)
    assert told.strip().endswith("plot needs matplotlib, which is not installed: pip install 'f1hbase[plot]'")


@pytest.mark.hbase
def test_hbase_gives_the_same_picture(
    files: Path, hbase: LocalHBase, table_prefix: str, tmp_path: Path, race: charts.SessionTables
) -> None:
    options = hbase_options(hbase, table_prefix)
    endpoints = (
        "meetings",
        "sessions",
        "drivers",
        "laps",
        "stints",
        "position",
        "session_result",
        "pit",
        "race_control",
    )
    load(files, session_key=race.session.key, endpoint=endpoints, **options)
    arguments = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    run(tmp_path, "lap-times", "--session-key", str(race.session.key), "-o", "hbase.svg", *arguments)
    plot(race.session, PlotRequest("lap-times", (), (), tmp_path / "files.svg"))
    assert (tmp_path / "hbase.svg").read_bytes() == (tmp_path / "files.svg").read_bytes()
    named = ("--from", "hbase", *arguments)
    run(tmp_path, "lap-times", "--session-key", str(race.session.key), "-o", "named.svg", *named)
    assert (tmp_path / "named.svg").read_bytes() == (tmp_path / "files.svg").read_bytes()
