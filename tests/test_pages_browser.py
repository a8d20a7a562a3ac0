"""The web pages in a real Chromium: they show what the tables have, answer keys, and say what is not there."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from browser import launched
from forwarder import Forwarder
from hbase_server import HOST, LocalHBase
from pages_server import serving
from playwright.sync_api import expect
from stored_weekend import YEAR, hbase_options, load, records, scopes, weekend

import f1hbase
from f1hbase.composition import destination_recipe
from f1hbase.config import resolve
from f1hbase.frames.session import Session
from f1hbase.serve.security import TOKEN_VARIABLE, access_of

PAGES = ("session", "telemetry", "replay")
DESKTOP, PHONE = (1280, 900), (390, 844)
WITHOUT_TELEMETRY = ("meetings", "sessions", "drivers", "laps", "position", "race_control", "weather", "session_result")

TOKEN = "3a0f5c1d9e7b4286"

Browser = Any
Page = Any


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as running:
        yield running


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weekend(tmp_path_factory.mktemp("pages"))


@pytest.fixture(scope="module")
def zone(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("zone") / "zone"
    load(files, to=str(place))
    return place


@pytest.fixture(scope="module")
def server(zone: Path) -> Iterator[str]:
    with serving(zone) as address:
        yield address


@pytest.fixture(scope="module")
def race(zone: Path, files: Path) -> Session:
    (record,) = records(files, "sessions", session_name="Race")
    return f1hbase.open(zone).session(record["session_key"])


@contextmanager
def opened(browser: Browser, size: tuple[int, int] = DESKTOP, *, quiet: bool = True, **options: Any) -> Iterator[Page]:
    """Yield a page whose console must stay empty, and which asks nobody but the server."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("request", lambda request: None if is_ours(request.url) else said.append(f"asked {request.url}"))
    try:
        yield page
        assert not (quiet and said), said
    finally:
        context.close()


def is_ours(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "blob:", "data:"))


def go(page: Page, server: str, path: str) -> Page:
    answer = page.goto(f"{server}/pages/{path}")
    assert answer.status == 200, page.inner_text("main")
    if path.startswith(PAGES):
        page.wait_for_selector("body[data-ready]")
    else:
        page.wait_for_selector("#home:not(:empty)", state="attached")
    return page


def download(page: Page, button: Any) -> bytes:
    with page.expect_download() as waiting:
        button.click()
    return Path(waiting.value.path()).read_bytes()


def lines_of(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def shown_time(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:06.3f}" if minutes else f"{rest:.3f}"


# --- every page ---


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_page_opens_without_an_error_and_fits_the_screen(
    browser: Browser, server: str, files: Path, size: tuple[int, int]
) -> None:
    race, *others = [scope.session_key for scope in reversed(scopes(files))]
    for scheme, keys in (("light", [race]), ("dark", others)):
        with opened(browser, size, color_scheme=scheme) as page:
            for path in ("", *(f"{name}/{key}" for key in keys for name in PAGES)):
                go(page, server, path)
                assert page.evaluate("document.documentElement.scrollWidth") <= size[0], path
                assert "NaN" not in page.inner_text("main"), path
                assert "undefined" not in page.inner_text("main"), path


def test_the_address_of_the_server_leads_to_the_pages(browser: Browser, server: str) -> None:
    with opened(browser) as page:
        page.goto(f"{server}/")
        assert page.url == f"{server}/pages/"


def test_a_page_can_be_walked_through_with_the_keyboard(browser: Browser, server: str, race: Session) -> None:
    with opened(browser) as page:
        go(page, server, f"session/{race.key}")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        reached = set()
        for _ in range(80):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.closest('section')?.id"))
        assert {"laps", "positions", "gaps", "stints", "timeline"} <= reached


@pytest.mark.parametrize("page_name", PAGES)
def test_what_is_not_loaded_is_a_page_of_its_own_with_its_status(browser: Browser, server: str, page_name: str) -> None:
    with opened(browser, quiet=False) as page:
        answer = page.goto(f"{server}/pages/{page_name}/4711")
        assert answer.status == 404
        assert "there is no session 4711" in page.inner_text("main")
        page.get_by_text("See what is loaded").click()
        assert page.url == f"{server}/pages/"


def test_a_browser_asks_its_user_for_the_token(browser: Browser, zone: Path, race: Session) -> None:
    access = access_of("0.0.0.0", environment={TOKEN_VARIABLE: TOKEN})
    with serving(zone, access=access) as server:
        with opened(browser, quiet=False) as page:
            assert page.goto(f"{server}/pages/").status == 401
        with opened(browser, http_credentials={"username": "anyone", "password": TOKEN}) as page:
            go(page, server, f"replay/{race.key}")
            assert page.locator("#order li").count() > 0


# --- what is loaded ---


def test_what_is_loaded_has_the_rows_that_were_stored(browser: Browser, server: str, zone: Path, files: Path) -> None:
    status = f1hbase.status(to=str(zone))
    with opened(browser) as page:
        go(page, server, "")
        assert page.inner_text("h2:has-text('2025')") == str(YEAR)
        rows = page.locator("table").first.locator("tbody tr").all()
        told = {row.locator("a").first.get_attribute("href"): row.locator("td").nth(3).inner_text() for row in rows}
        assert told == {
            f"/pages/session/{scope.session_key}": f"{scope.rows.total():,}"
            for scope in status.scopes
            if scope.session_key is not None
        }
        assert page.locator(".state.all").count() == len(scopes(files))
        assert "all that was asked for" in page.inner_text("#summary")


# --- a session ---


def test_the_classification_is_the_sessions_result(browser: Browser, server: str, race: Session) -> None:
    result = sorted(race.session_result().to_pylist(), key=lambda row: (row["position"] is None, row["position"]))
    names = {row["driver_number"]: row["name_acronym"] for row in race.drivers().to_pylist()}
    with opened(browser) as page:
        go(page, server, f"session/{race.key}")
        rows = page.locator("#classification tbody tr").all()
        assert [row.locator("strong").first.inner_text() for row in rows] == [
            names[row["driver_number"]] for row in result
        ]
        assert [row.locator("td").nth(3).inner_text() for row in rows] == [str(row["number_of_laps"]) for row in result]


def test_a_plot_is_saved_as_csv_svg_and_png_with_the_laps_of_the_table(
    browser: Browser, server: str, race: Session
) -> None:
    with opened(browser) as page:
        go(page, server, f"session/{race.key}")
        tools = page.locator("#laps .tools button")
        lines = lines_of(download(page, tools.nth(2)))
        assert {(int(line["driver_number"]), int(line["lap_number"])): line["seconds"] for line in lines} == {
            (row["driver_number"], row["lap_number"]): "" if row["lap_duration"] is None else f"{row['lap_duration']:g}"
            for row in race.laps().to_pylist()
        }
        svg = ET.fromstring(download(page, tools.nth(1)))
        assert svg.tag.endswith("svg")
        acronyms = {row["name_acronym"] for row in race.drivers().to_pylist()}
        assert acronyms <= {element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")}
        assert download(page, tools.nth(0)).startswith(b"\x89PNG\r\n\x1a\n")
        assert download(page, page.locator("#stints .tools button").nth(0)).startswith(b"\x89PNG\r\n\x1a\n")


def test_keys_move_the_cursor_of_a_plot_and_tell_the_lap_times(browser: Browser, server: str, race: Session) -> None:
    times = [row["lap_duration"] for row in race.laps(lap=2).to_pylist() if row["lap_duration"] is not None]
    assert times
    with opened(browser) as page:
        go(page, server, f"session/{race.key}")
        page.locator("#laps .plot").focus()
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        tip = page.locator("#laps .tip")
        assert tip.locator("b").inner_text() == "Lap 2"
        for time in times:
            assert shown_time(time) in tip.inner_text()
        page.keyboard.press("Escape")
        assert tip.is_hidden()


def test_a_driver_is_hidden_and_shown(browser: Browser, server: str, race: Session) -> None:
    with opened(browser) as page:
        go(page, server, f"session/{race.key}")
        chip = page.locator("#positions .chip").first
        name = chip.inner_text().strip()
        page.locator("#positions .plot").focus()
        page.keyboard.press("End")
        page.keyboard.press("Home")
        assert name in page.locator("#positions .tip").inner_text()
        chip.press("Enter")
        assert chip.get_attribute("aria-pressed") == "false"
        page.locator("#positions .plot").focus()
        page.keyboard.press("ArrowRight")
        assert name not in page.locator("#positions .tip").inner_text()


def test_messages_are_all_there_and_move_the_cursor_of_the_time_line(
    browser: Browser, server: str, race: Session
) -> None:
    messages = race.race_control().to_pylist()
    with opened(browser) as page:
        go(page, server, f"session/{race.key}")
        lines = page.locator("#timeline .message")
        assert lines.count() == len(messages)
        assert {row["message"] for row in messages} == {
            re.sub(r"^Lap \d+: ", "", line.locator("span").inner_text()) for line in lines.all()
        }
        lines.last.click()
        assert lines.last.get_attribute("aria-current") == "true"


def test_team_radio_is_asked_for_only_on_a_click(browser: Browser, server: str, race: Session) -> None:
    count = len(race.team_radio())
    with opened(browser) as page:
        go(page, server, f"session/{race.key}")
        assert page.locator("#team-radio tbody tr").count() == count
        assert page.locator("audio").count() == 0
        assert "at Formula 1, not here" in page.inner_text("#team-radio")


# --- telemetry ---


def test_laps_are_compared_and_the_link_shows_the_same_again(browser: Browser, server: str, race: Session) -> None:
    laps = race.laps().to_pylist()
    driver = next(row["driver_number"] for row in laps if row["lap_number"] == 2 and row["lap_duration"] is not None)
    with opened(browser) as page:
        go(page, server, f"telemetry/{race.key}?lap={driver}-2")
        assert page.locator("#chosen li").count() == 1
        other = next(row for row in laps if row["driver_number"] != driver and row["lap_duration"] is not None)
        page.select_option("#driver", str(other["driver_number"]))
        page.select_option("#lap", str(other["lap_number"]))
        page.get_by_text("Add lap").click()
        page.wait_for_selector("body[data-ready='2']")
        chosen = page.locator("#chosen li strong").all_inner_texts()
        assert len(chosen) == 2
        address = page.url
        assert address.endswith(f"?lap={driver}-2&lap={other['driver_number']}-{other['lap_number']}")
        headings = page.locator("#plots h3").all_inner_texts()
        assert headings[:2] == ["Speed", "Delta time to the first lap"]
        assert {"Throttle", "Brake", "Gear", "RPM", "DRS"} <= set(headings)
    with opened(browser) as page:
        go(page, server, address.removeprefix(f"{server}/pages/"))
        assert page.locator("#chosen li strong").all_inner_texts() == chosen


def test_the_telemetry_that_is_saved_is_the_tables(browser: Browser, server: str, race: Session) -> None:
    lap = next(row for row in race.laps().to_pylist() if row["lap_duration"] is not None)
    samples = race.telemetry(lap["driver_number"], lap=lap["lap_number"]).to_pylist()
    with opened(browser) as page:
        go(page, server, f"telemetry/{race.key}?lap={lap['driver_number']}-{lap['lap_number']}")
        lines = lines_of(download(page, page.locator("#plots .tools button").nth(2)))
        assert [float(line["speed_kmh"]) for line in lines] == [row["speed"] for row in samples]
        assert [float(line["distance_m"]) for line in lines] == [row["distance"] for row in samples]
        assert [int(line["gear"]) for line in lines] == [row["n_gear"] for row in samples]
        page.locator("#plots .plot").first.focus()
        page.keyboard.press("End")
        page.wait_for_selector("#track circle[r='6']")
        last = samples[-1]
        told = page.locator("#readout tr", has_text="Speed").inner_text()
        assert f"{round(last['speed'])} km/h" in told


# --- replay ---


def test_the_replay_plays_pauses_and_jumps_by_keys(browser: Browser, server: str, race: Session) -> None:
    starts: dict[int, Any] = {}
    for row in race.laps().to_pylist():
        if row["date_start"] is not None:
            starts[row["lap_number"]] = min(starts.get(row["lap_number"], row["date_start"]), row["date_start"])
    with opened(browser) as page:
        go(page, server, f"replay/{race.key}")
        page.wait_for_selector("#map-state:empty", state="attached")
        clock = page.inner_text("#clock")
        page.keyboard.press("]")
        seconds = round((starts[2] - starts[1]).total_seconds())
        assert page.inner_text("#clock") == f"{seconds // 60:02}:{seconds % 60:02}" != clock
        assert page.input_value("#jump") == "2"
        page.keyboard.press("+")
        assert page.input_value("#speed") == "20"
        before = page.input_value("#time")
        page.keyboard.press(" ")
        expect(page.locator("#time")).not_to_have_value(before)
        assert page.inner_text("#play") == "Pause"
        page.keyboard.press(" ")
        assert page.inner_text("#play") == "Play"


def test_the_replay_has_the_order_and_jumps_to_a_message(browser: Browser, server: str, race: Session) -> None:
    with opened(browser) as page:
        go(page, server, f"replay/{race.key}")
        page.locator("#messages .message").last.click()
        last: dict[int, int] = {}
        for row in sorted(race.position().to_pylist(), key=lambda row: row["date"]):
            if row["date"] <= race.race_control().to_pylist()[-1]["date"]:
                last[row["driver_number"]] = row["position"]
        names = {row["driver_number"]: row["name_acronym"] for row in race.drivers().to_pylist()}
        order = [names[number] for number in sorted(last, key=lambda number: last[number])]
        assert page.locator("#order strong").all_inner_texts() == order


# --- what is not there ---


def test_a_session_without_telemetry_says_so_on_every_page(
    browser: Browser, files: Path, race: Session, tmp_path: Path
) -> None:
    load(files, to=str(tmp_path / "zone"), endpoint=list(WITHOUT_TELEMETRY))
    with serving(tmp_path / "zone") as server, opened(browser) as page:
        for name in PAGES:
            go(page, server, f"{name}/{race.key}")
            assert "only loaded in part" in page.inner_text("#notices"), name
            page.locator("#notices summary").click()
            assert "car_data: not loaded" in page.inner_text("#notices")
        go(page, server, f"replay/{race.key}")
        expect(page.locator("#map-state")).to_contain_text("are not loaded")
        go(page, server, f"telemetry/{race.key}")
        assert "car_data: not loaded" in page.inner_text("#plots")
        go(page, server, f"session/{race.key}")
        assert page.locator("#laps .plot").count() == 1
        assert "No stint is loaded." in page.inner_text("#stints")


def test_without_the_charting_library_the_pages_have_all_but_the_plots(
    browser: Browser, server: str, race: Session
) -> None:
    with opened(browser, quiet=False) as page:
        page.route("**/uPlot.iife.min.js", lambda route: route.abort())
        for name in PAGES:
            go(page, server, f"{name}/{race.key}")
        go(page, server, f"session/{race.key}")
        assert "uPlot was not there" in page.inner_text("#laps")
        assert page.locator("#classification tbody tr").count() == len(race.session_result())
        assert len(lines_of(download(page, page.locator("#laps .tools button").last))) == len(race.laps())


def test_text_of_the_data_is_never_read_as_html(browser: Browser, tmp_path: Path, files: Path) -> None:
    bad = "<img src=x onerror=alert(1)><b>&amp;"
    (session,) = records(files, "sessions", session_name="Race")
    key = session["session_key"]
    changed = {"drivers": ("full_name", "name_acronym", "team_name"), "race_control": ("message", "flag"),
               "sessions": ("session_name", "country_name", "circuit_short_name"),
               "stints": ("compound",), "team_radio": ("recording_url",)}  # fmt: skip
    others = ("meetings", "laps", "position", "session_result", "weather")
    for endpoint in (*changed, *others):
        found = records(files, endpoint, **({} if endpoint == "meetings" else {"session_key": key}))
        for record in found:
            record.update(dict.fromkeys(changed.get(endpoint, ()), bad))
        lines = "".join(f"{json.dumps(record)}\n" for record in found)
        (tmp_path / f"{endpoint}.jsonl").write_text(lines, encoding="utf-8")
    with serving(tmp_path) as server, opened(browser, quiet=False) as page:
        dialogs: list[str] = []

        def dismiss(dialog: Any) -> None:
            dialogs.append(dialog.message)
            dialog.dismiss()

        page.on("dialog", dismiss)
        for path in ("", *(f"{name}/{key}" for name in PAGES)):
            go(page, server, path)
            assert bad in page.inner_text("body"), path
            assert page.locator("main img, main b > *").count() == 0
        assert not dialogs


# --- HBase ---


@pytest.mark.hbase
def test_hbase_goes_away_and_comes_back(
    browser: Browser, hbase: LocalHBase, table_prefix: str, files: Path, race: Session
) -> None:
    options = hbase_options(hbase, table_prefix)
    load(files, to="hbase", endpoint=list(WITHOUT_TELEMETRY), **options)
    other = next(scope.session_key for scope in scopes(files) if scope.session_key != race.key)
    with Forwarder(hbase.port) as way:
        options |= {"hbase_host": HOST, "hbase_port": way.port}
        with serving("hbase", **options) as server, opened(browser, quiet=False) as page:
            go(page, server, f"session/{race.key}")
            assert page.locator("#classification tbody tr").count() == len(race.session_result())
            way.stop()
            # What was asked a moment ago is still known; another session is not.
            answer = page.goto(f"{server}/pages/session/{other}")
            assert answer.status == 503
            page.wait_for_selector("#notices .bad")
            assert "The store is away." in page.inner_text("#notices")
            way.start()
            page.wait_for_selector("body[data-ready]")
            assert page.locator("#notices .bad").count() == 0
            names = {row["name_acronym"] for row in race.drivers().to_pylist()}
            assert set(page.locator("#classification strong").all_inner_texts()) <= names
            assert page.locator("#classification tbody tr").count() == len(names)


@pytest.mark.hbase
def test_empty_tables_are_said_to_be_empty(browser: Browser, hbase: LocalHBase, table_prefix: str) -> None:
    options = hbase_options(hbase, table_prefix)
    destination_recipe(resolve(options, names=[]), "hbase").prepare([])
    with serving("hbase", **options) as server, opened(browser, quiet=False) as page:
        go(page, server, "")
        assert page.inner_text("#summary") == "Nothing is loaded yet."
        answer = page.goto(f"{server}/pages/session/1")
        assert answer.status == 404
