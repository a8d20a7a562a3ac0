"""The pictures of the documentation: what a terminal showed is what is drawn, and none is missing."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import pyte
import pytest

_ROOT = Path(__file__).resolve().parent.parent
_PAGES = [
    _ROOT / "README.md",
    _ROOT / "screenshots" / "README.md",
    _ROOT / "docs" / "plots.md",
    _ROOT / "docs" / "pages.md",
]
_PLOTS = sorted((_ROOT / "screenshots").glob("*.png"))
_PICTURES = sorted((_ROOT / "screenshots").glob("*.svg"))
_SVG = "{http://www.w3.org/2000/svg}"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@pytest.fixture(scope="module")
def screenshots() -> ModuleType:
    spec = importlib.util.spec_from_file_location("screenshots", _ROOT / "scripts" / "screenshots.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Where its dataclasses look for their own names.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def drawn(screenshots: ModuleType, stream: str, columns: int = 40) -> ET.Element:
    """Return the drawing of what a terminal shows after a stream, having looked whether it is fit to be a file."""
    screen = pyte.Screen(columns, 10)
    pyte.Stream(screen).feed(stream)
    picture = screenshots.draw(screen, "$ a <title> & more")
    assert not _CONTROL.search(picture)
    return ET.fromstring(picture)


def texts(svg: ET.Element) -> dict[str, ET.Element]:
    return {element.text or "": element for element in svg.iter(f"{_SVG}text")}


def rectangles(svg: ET.Element, colour: str) -> list[ET.Element]:
    return [element for element in svg.iter(f"{_SVG}rect") if element.get("fill") == colour]


def test_text_keeps_its_colour_its_weight_and_its_place(screenshots: ModuleType) -> None:
    shown = texts(drawn(screenshots, "\x1b[31m[ERROR]\x1b[0m a <b> & c\r\n\x1b[1;32mOK\x1b[0m   São Paulo"))
    assert set(shown) == {"$ a <title> & more", "[ERROR]", "a <b> & c", "OK", "São Paulo"}
    assert shown["[ERROR]"].get("fill") == screenshots.COLOURS["red"]
    assert shown["a <b> & c"].get("fill") == screenshots.COLOURS["default"]
    assert (shown["OK"].get("fill"), shown["OK"].get("font-weight")) == (screenshots.COLOURS["green"], "bold")
    x, y = ({name: float(shown[name].get(axis, "")) for name in shown} for axis in "xy")
    assert x["[ERROR]"] == x["OK"]
    assert x["a <b> & c"] - x["[ERROR]"] == pytest.approx(8 * 8.4)
    assert x["São Paulo"] - x["OK"] == pytest.approx(5 * 8.4)
    assert y["[ERROR]"] == y["a <b> & c"] < y["OK"]


def test_what_was_written_over_is_not_drawn(screenshots: ModuleType) -> None:
    shown = texts(drawn(screenshots, "first line\r\n 10%\r 20%\x1b[K\x1b[A\rthe other\x1b[K"))
    assert set(shown) - {"$ a <title> & more"} == {"the other", "20%"}


def test_the_blocks_of_a_bar_are_drawn_as_long_as_they_say(screenshots: ModuleType) -> None:
    svg = drawn(screenshots, "50%|\x1b[32m███▌    \x1b[0m| half")
    (bar,) = rectangles(svg, screenshots.COLOURS["green"])
    assert float(bar.get("width", "")) == pytest.approx(3.5 * 8.4)
    assert not any("█" in text for text in texts(svg))


def test_other_colours_and_those_behind_the_text_are_kept(screenshots: ModuleType) -> None:
    svg = drawn(screenshots, "\x1b[38;5;208morange\x1b[0m \x1b[44mon blue\x1b[0m \x1b[7mreversed\x1b[0m \x1b[93mbright")
    shown = texts(svg)
    assert shown["orange"].get("fill") == "#ff8700"
    assert shown["bright"].get("fill") == screenshots.COLOURS["brown"]
    (behind,) = rectangles(svg, screenshots.COLOURS["blue"])
    assert behind.get("x") == shown["on blue"].get("x")
    (behind,) = rectangles(svg, screenshots.COLOURS["default"])
    assert behind.get("x") == shown["reversed"].get("x")
    assert shown["reversed"].get("fill") != screenshots.COLOURS["default"]


def test_a_picture_is_as_high_as_what_it_shows(screenshots: ModuleType) -> None:
    one, three = (float(drawn(screenshots, stream).get("height", "")) for stream in ("x", "x\r\n\r\nx"))
    assert three - one == pytest.approx(2 * 19)


def test_every_picture_that_a_page_shows_is_there_and_every_one_there_is_shown() -> None:
    named = {
        (page.parent / target).resolve()
        for page in _PAGES
        for target in re.findall(r"!\[[^]]+\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    }
    assert named == {*_PICTURES, *_PLOTS}
    assert _PICTURES
    assert _PLOTS


@pytest.mark.parametrize("picture", _PLOTS, ids=lambda picture: picture.name)
def test_plots_and_pages_are_small_and_tell_nothing_of_where_they_were_made(picture: Path) -> None:
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG\r\n")
    assert len(content) < 200_000
    assert not re.search(rb"tEXt|iTXt|zTXt|eXIf", content)


@pytest.mark.parametrize("picture", _PICTURES, ids=lambda picture: picture.name)
def test_pictures_are_small_well_formed_and_ask_no_other_host_for_anything(picture: Path) -> None:
    text = picture.read_text(encoding="utf-8")
    assert len(text.encode()) < 200_000
    assert not _CONTROL.search(text)
    ET.fromstring(text)
    assert not re.search(r"(href|src|url\(|@import|<script|<style)", text)
