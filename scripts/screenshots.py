"""Runs f1hbase in terminals of a given size and draws what their screens show: the pictures in screenshots/.

Usage: scripts/screenshots.sh, which starts what this needs: HBase, and a replay server over simulated seasons.

Nothing is staged: each command is run in a pseudo-terminal, an emulator (pyte) keeps its screen, and that is drawn.
"""

from __future__ import annotations

import json
import os
import platform
import pty
import re
import select
import sys
import termios
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from time import monotonic
from typing import Any
from xml.etree import ElementTree as ET

import pyte
from pyte.screens import Char

SCREENSHOTS = Path(__file__).resolve().parent.parent / "screenshots"

_LOAD = "python hbase_populate_openF1.py"
_CTRL_C = "\x03"
_PATIENCE_SECONDS = 300.0

_HALF_OF_2024, _HALF_OF_2025 = 190_000, 55_000
"""Half of the rows that scripts/screenshots.sh simulates."""

# --- drawing ---

_CELL = (8.4, 19.0)
"""Width and height of a character, in pixels, with the letters 14 pixels high."""
_MARGIN = 14.0
_TITLE_BAR = 34.0
_FONTS = "ui-monospace, SFMono-Regular, Menlo, 'DejaVu Sans Mono', 'Liberation Mono', Consolas, monospace"
_INK, _PAPER, _FRAME, _BAR = "#d0d7de", "#0d1117", "#30363d", "#161b22"
_BUTTONS = ("#ff5f57", "#febc2e", "#28c840")
COLOURS = {
    "default": _INK, "black": "#484f58", "red": "#ff7b72", "green": "#56d364", "brown": "#e3b341", "blue": "#79c0ff",
    "magenta": "#d2a8ff", "cyan": "#56d4dd", "white": "#d0d7de",
}  # fmt: skip
"""Those of the emulator, whose brown is everybody's yellow; it spells bright ones `brightred`."""

_FULL_BLOCK, _EIGHTH_BLOCK = "█", "▏"


def draw(screen: pyte.Screen, title: str) -> str:
    """Return an SVG of a screen, down to its last line that is not empty, in a window with a title."""
    lines = [[screen.buffer[y][x] for x in range(screen.columns)] for y in range(screen.lines)]
    while len(lines) > 1 and not any(cell.data.strip() for cell in lines[-1]):
        lines.pop()
    width, height = screen.columns * _CELL[0] + 2 * _MARGIN, _TITLE_BAR + len(lines) * _CELL[1] + 2 * _MARGIN
    svg = ET.Element("svg", {
        "xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {width:g} {height:g}", "width": f"{width:g}",
        "height": f"{height:g}", "font-family": _FONTS, "font-size": "14", "role": "img",
    })  # fmt: skip
    ET.SubElement(svg, "title").text = title
    _rectangle(svg, 0.5, 0.5, width - 1, height - 1, _PAPER, {"rx": "8", "stroke": _FRAME})
    _rectangle(svg, 1, 1, width - 2, _TITLE_BAR - 1, _BAR, {"rx": "8"})
    for number, colour in enumerate(_BUTTONS):
        place = {"cx": f"{20 + 20 * number}", "cy": f"{_TITLE_BAR / 2:g}", "r": "6", "fill": colour}
        ET.SubElement(svg, "circle", place)
    _text(svg, 84, _TITLE_BAR / 2 + 5, title, Char("", fg="default", bold=True))
    for number, line in enumerate(lines):
        _draw_line(svg, _TITLE_BAR + _MARGIN + number * _CELL[1], line)
    ET.indent(svg, " ")
    return ET.tostring(svg, encoding="unicode") + "\n"


def _draw_line(svg: ET.Element, top: float, line: Iterable[Char]) -> None:
    for x, text, style in _pieces(line):
        left, width = _MARGIN + x * _CELL[0], len(text) * _CELL[0]
        if style.bg != "default" or style.reverse:
            _rectangle(svg, left, top, width, _CELL[1], _colour(style.fg if style.reverse else style.bg, _INK))
        # Blocks are drawn, as fonts differ in how wide theirs are.
        if _is_block(text):
            eighths = sum(8 - (ord(block) - ord(_FULL_BLOCK)) for block in text)
            _rectangle(svg, left, top + 2, eighths / 8 * _CELL[0], _CELL[1] - 4, _colour(style.fg))
        elif text.strip():
            _text(svg, left, top + 14, text, style)


def _pieces(line: Iterable[Char]) -> Iterator[tuple[int, str, Char]]:
    """Yield where a piece begins, its text and its style: each stretch of one style, cut at more than one space."""

    def kind(cell: tuple[int, Char]) -> tuple[Char, bool]:
        return cell[1]._replace(data=""), _is_block(cell[1].data)

    for (style, _), cells in groupby(enumerate(line), kind):
        stretch = list(cells)
        text = "".join(cell.data for _, cell in stretch)
        if style.bg != "default" or style.reverse:
            yield stretch[0][0], text, style
            continue
        for piece in re.finditer(r"\S+(?: \S+)*", text):
            yield stretch[piece.start()][0], piece[0], style


def _is_block(text: str) -> bool:
    return bool(text) and all(_FULL_BLOCK <= letter <= _EIGHTH_BLOCK for letter in text)


def _colour(name: str, default: str = _INK) -> str:
    if name == "default":
        return default
    return COLOURS.get(name.removeprefix("bright")) or f"#{name}"


def _rectangle(
    svg: ET.Element, x: float, y: float, width: float, height: float, colour: str, more: Mapping[str, str] | None = None
) -> None:
    place = {"x": f"{x:g}", "y": f"{y:g}", "width": f"{width:g}", "height": f"{height:g}", "fill": colour}
    ET.SubElement(svg, "rect", {**place, **(more or {})})


def _text(svg: ET.Element, x: float, y: float, text: str, style: Char) -> None:
    attributes = {
        "x": f"{x:g}", "y": f"{y:g}", "fill": _colour(style.bg, _PAPER) if style.reverse else _colour(style.fg),
        # Whatever font there is, columns stay columns.
        "textLength": f"{len(text) * _CELL[0]:g}", "lengthAdjust": "spacingAndGlyphs",
    }  # fmt: skip
    if style.bold:
        attributes["font-weight"] = "bold"
    ET.SubElement(svg, "text", attributes).text = text


# --- terminals ---


class _Screen(pyte.Screen):
    """A screen that answers when it is asked what it is, as some programs wait for that."""

    def __init__(self, columns: int, lines: int, answer: Callable[[str], None]) -> None:
        self._answer = answer
        super().__init__(columns, lines)

    def write_process_input(self, data: str) -> None:
        self._answer(data)


class Terminal:
    """A command that runs in a terminal of its own.

    Args:
        command: For the shell.
        columns: The width.
        lines: The height.
    """

    def __init__(self, command: str, columns: int, lines: int) -> None:
        self.command = command
        self.screen = _Screen(columns, lines, self.type)
        self._stream = pyte.ByteStream(self.screen)
        self._pid, self.file = pty.fork()
        if self._pid == 0:
            termios.tcsetwinsize(0, (lines, columns))
            os.execvp("bash", ["bash", "-c", f"exec {command}"])  # noqa: S606 - the shell is wanted: PATH, quotes

    @property
    def shown(self) -> list[str]:
        """The lines of the screen, as text."""
        return [line.rstrip() for line in self.screen.display]

    def read(self) -> bool:
        """Take what the command has written; False if it has ended."""
        try:
            data = os.read(self.file, 65536)
        except OSError:  # how Linux says that there is nobody any more at the other end
            data = b""
        self._stream.feed(data)
        return bool(data)

    def type(self, text: str) -> None:
        """Send keys."""
        os.write(self.file, text.encode())

    def wait(self) -> None:
        """Read to the end."""
        while self.read():
            pass
        os.close(self.file)
        os.waitpid(self._pid, 0)


def _read_until(seen: Callable[[], bool], *terminals: Terminal) -> None:
    """Read from terminals until something is to be seen.

    Raises:
        RuntimeError: If that takes too long, or one of the commands ends before.
    """
    deadline = monotonic() + _PATIENCE_SECONDS
    while not seen():
        ready, _, _ = select.select([terminal.file for terminal in terminals], [], [], 1.0)
        ended = not all(terminal.read() for terminal in terminals if terminal.file in ready)
        if (ended and not seen()) or monotonic() > deadline:
            screens = ("\n".join([f"$ {terminal.command}", *terminal.shown]) for terminal in terminals)
            raise RuntimeError("what was to be drawn was not to be seen:\n" + "\n".join(screens))


# --- pictures ---


def _save(name: str, terminal: Terminal) -> None:
    picture = draw(terminal.screen, f"$ {terminal.command}")
    # Nobody need know where pictures were made.
    for secret in (str(SCREENSHOTS.parent), str(Path.home()), platform.node(), os.environ.get("USER", "")):
        if secret not in {"", "/", "root", "localhost"} and secret in picture:
            raise RuntimeError(f"{name}.svg would show {secret!r}")
    (SCREENSHOTS / f"{name}.svg").write_text(picture, encoding="utf-8")
    sys.stdout.write(f"screenshots/{name}.svg\n")


def _load_with_log() -> None:
    """Draw the log at a moment that shows failures, and the load half way."""
    load = Terminal(f"{_LOAD} --year 2024", 128, 24)
    _read_until(Path("populate.log").exists, load)
    log = Terminal("tail -f populate.log", 128, 24)
    _read_until(lambda: _shows_failures(log.shown), log, load)
    _save("log", log)
    _read_until(lambda: _rows(load) > _HALF_OF_2024, load, log)
    _save("load", load)
    _read_until(lambda: "is loaded" in load.shown[load.screen.cursor.y - 1], load, log)
    load.wait()
    log.type(_CTRL_C)
    log.wait()


def _shows_failures(shown: list[str]) -> bool:
    """Return whether among requests for car and location data there are two that failed."""
    return "location?" in shown[0] and sum("(attempt " in line for line in shown) >= 2


def _load_that_fails() -> None:
    """Draw a load in a narrow terminal, of an API that has nothing but errors for an endpoint."""
    _ask_for_faults({"share": 0.0, "fail": {"team_radio": 502}})
    load = Terminal(f"{_LOAD} --year 2025", 80, 24)
    _read_until(lambda: _rows(load) > _HALF_OF_2025, load)
    _save("load-80", load)
    load.wait()


def _ask_for_faults(changes: Mapping[str, Any]) -> None:
    url = os.environ["F1HBASE_API_URL"].removesuffix("/v1") + "/_faults"
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(changes).encode(), method="POST")):  # noqa: S310
        pass


def _rows(load: Terminal) -> float:
    """Return the rows of the run as its bar shows them."""
    found = re.search(r"\d meetings .* ([\d.]+)k rows", "\n".join(load.shown))
    return 1000 * float(found[1]) if found else 0.0


def _to_the_end(name: str, command: str, columns: int, lines: int) -> None:
    terminal = Terminal(command, columns, lines)
    terminal.wait()
    _save(name, terminal)


def _hbase_shell() -> None:
    """Draw what the genuine shell answers to what is typed into it."""
    shell = Terminal("hbase shell", 120, 40)
    for line in (
        "count 'f1_data', INTERVAL => 50000, CACHE => 5000",
        "scan 'f1_data', {LIMIT => 4, COLUMNS => ['laps:lap_duration', 'laps:segments_sector_1', 'pit']}",
    ):
        _read_until(lambda: _is_at_prompt(shell), shell)
        shell.type(f"{line}\n")
        _read_until(lambda: not _is_at_prompt(shell), shell)
    _read_until(lambda: _is_at_prompt(shell), shell)
    _save("hbase-shell", shell)
    shell.type("exit\n")
    shell.wait()


def _is_at_prompt(shell: Terminal) -> bool:
    return re.fullmatch(r"hbase:\d+:0>", shell.shown[shell.screen.cursor.y]) is not None


def main() -> None:
    """Make every picture."""
    _load_with_log()
    _load_that_fails()
    _to_the_end("status", f"{_LOAD} status", 80, 48)
    _ask_for_faults({"fail": {}})
    Terminal(_LOAD, 80, 24).wait()
    _hbase_shell()
    _to_the_end("verify", f"{_LOAD} verify --deep", 120, 28)
    _to_the_end("doctor", f"{_LOAD} doctor", 100, 28)


if __name__ == "__main__":
    if "F1HBASE_API_URL" not in os.environ:
        sys.exit("screenshots.py: run scripts/screenshots.sh, which starts what this needs")
    try:
        main()
    except (RuntimeError, OSError) as error:
        sys.exit(f"screenshots.py: {error}")
