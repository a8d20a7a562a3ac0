"""Takes the pictures of docs/pages.md in a real Chromium, of a simulated weekend; scripts/screenshots.sh runs it, too.

Usage: .venv/bin/python scripts/pages.py
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

_ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(_ROOT), str(_ROOT / "tests")]

from browser import find_chromium  # noqa: E402 - the repository is no package

import f1hbase  # noqa: E402
from simulator import Plan, simulate  # noqa: E402

_COLOURS = 220
_RACE, _QUALIFYING = 70_003, 70_002
_ZONE = "/tmp/f1hbase-pages"  # noqa: S108 - paths show in pictures: this one says nothing about the machine
_DESKTOP, _PHONE = (1280, 860), (390, 844)


def _nothing(page: Any) -> None:
    """Take it as it opens."""
    del page


def _hover_laps(page: Any) -> None:
    page.locator("#laps .plot").scroll_into_view_if_needed()
    page.locator("#laps .plot").focus()
    page.keyboard.press("Home")
    for _ in range(11):
        page.keyboard.press("ArrowRight")
    # Without the frame around what has the focus.
    page.evaluate("scrollTo(0, document.getElementById('laps').offsetTop - 64)")


def _timeline(page: Any) -> None:
    page.locator("#timeline .message").nth(12).click()
    page.evaluate("scrollTo(0, document.getElementById('stints').offsetTop - 64)")
    page.evaluate("document.getElementById('pit-stops').hidden = true")


def _point_at_speed(page: Any) -> None:
    box = page.locator("#plots .u-over").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.44, box["y"] + box["height"] * 0.5)


def _race_along(page: Any) -> None:
    page.wait_for_selector("#map-state:empty", state="attached")
    page.locator("#jump").select_option("14")
    page.locator("h1").click()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    page.wait_for_selector("#map-state:empty", state="attached")


@dataclass(frozen=True)
class _Picture:
    path: str
    scheme: str = "light"
    size: tuple[int, int] = _DESKTOP
    before: Callable[[Any], None] = _nothing


_PICTURES = {
    "pages-loaded": _Picture("", size=(1280, 640)),
    "pages-session": _Picture(f"session/{_RACE}", before=_hover_laps),
    "pages-timeline": _Picture(f"session/{_RACE}", "dark", (1280, 1420), _timeline),
    "pages-telemetry": _Picture(f"telemetry/{_QUALIFYING}", "dark", (1280, 1060), _point_at_speed),
    "pages-replay": _Picture(f"replay/{_RACE}", before=_race_along),
    "pages-phone-session": _Picture(f"session/{_RACE}", "dark", _PHONE),
    "pages-phone-telemetry": _Picture(f"telemetry/{_QUALIFYING}", "light", _PHONE, _point_at_speed),
}


@contextmanager
def _served() -> Iterator[str]:
    command = [sys.executable, str(_ROOT / "hbase_populate_openF1.py"), "serve", "--from", _ZONE, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().removeprefix("serving ").strip().removesuffix("/v1")
        finally:
            server.terminate()


def main() -> None:
    """Take every picture."""
    program = find_chromium()
    if program is None:
        sys.exit("pages.py: there is no Chromium: python tests/browser.py installs one")
    with TemporaryDirectory() as work:
        zone = Path(_ZONE)
        zone.mkdir(mode=0o700)
        try:
            plan = Plan(year=2025, sessions=("practice", "qualifying", "race"), minutes=30, first_day=date(2025, 3, 14))
            for _ in simulate(Path(work) / "weekend", plan):
                pass
            f1hbase.load(source=Path(work) / "weekend", to=zone, year=2025, patience="30s")
            with _served() as server, sync_playwright() as playwright:
                _take(playwright.chromium.launch(executable_path=program, args=["--no-sandbox"]), server)
        finally:
            rmtree(_ZONE, ignore_errors=True)


def _take(browser: Any, server: str) -> None:
    for name, picture in _PICTURES.items():
        width, height = picture.size
        scale = 2 if picture.size == _PHONE else 1
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=picture.scheme, device_scale_factor=scale
        )
        page = context.new_page()
        page.goto(f"{server}/pages/{picture.path}")
        page.wait_for_selector("body[data-ready]" if picture.path else "#seasons table")
        picture.before(page)
        page.wait_for_timeout(300)  # until what fades has faded
        small = io.BytesIO()
        shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        shot.quantize(_COLOURS, dither=Image.Dither.NONE).save(small, "png", optimize=True)
        (_ROOT / "screenshots" / f"{name}.png").write_bytes(small.getvalue())
        sys.stdout.write(f"screenshots/{name}.png\n")
        context.close()
    browser.close()


if __name__ == "__main__":
    main()
