"""How every picture looks: sizes, grounds, titles, what is missing; and how one becomes the bytes of a file.

Pictures are made with matplotlib's objects alone, never with pyplot, so that nothing is global, no display is needed
and any thread may draw.
"""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import AbstractPathEffect, withStroke
from matplotlib.ticker import FuncFormatter

from f1hbase.charts import DriverStyle, SessionTables
from f1hbase.charts.colours import DARK_GROUND, LIGHT_GROUND
from f1hbase.charts.tables import Numbers

INCHES = (12.0, 6.75)
DOTS_PER_INCH = 150
"""1800 by 1012 pixels: sharp on a page that is 900 wide on a screen of two pixels a point."""

DASHED = (0, (4, 1.6))

_NOTES_SHOWN = 4
_NOTE_CHARACTERS = 170


@dataclass(frozen=True, slots=True)
class Theme:
    """The colours of what is no data.

    Attributes:
        ground: Behind it all.
        text: Of titles.
        quiet: Of ticks and notes.
        grid: Of lines behind the data.
        slowed: Of laps and times under a safety car.
        stopped: Of those under a red flag.
        is_dark: Whether the ground is dark.
    """

    ground: str
    text: str
    quiet: str
    grid: str
    slowed: str
    stopped: str
    is_dark: bool

    def colour(self, driver: DriverStyle) -> str:
        """Return what a driver is drawn with."""
        return driver.dark if self.is_dark else driver.light


LIGHT = Theme(LIGHT_GROUND, "#16181d", "#5b616b", "#e3e6ea", "#f5d76e", "#f2a3a3", is_dark=False)
DARK = Theme(DARK_GROUND, "#f2f3f5", "#a3a9b3", "#2a2e35", "#6b5a14", "#6b2222", is_dark=True)


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure, and what is not in it.

    Attributes:
        figure: The figure.
        missing: What the chart lacks, in words.
        is_empty: Whether there was nothing to draw at all.
    """

    figure: Figure
    missing: tuple[str, ...]
    is_empty: bool


@contextmanager
def plain() -> Iterator[None]:
    """Draw with matplotlib's defaults, whatever the user's settings are; a `$` in a name begins no formula."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({
            "text.parse_math": False,
            "font.size": 10,
            # The same picture is the same file.
            "svg.hashsalt": "f1hbase",
        })  # fmt: skip
        yield


def new_figure(
    title: str, subtitle: str, missing: Sequence[str], theme: Theme, inches: tuple[float, float] = INCHES
) -> Figure:
    """Return a figure with its titles at the top left, and what is missing at the foot."""
    figure = Figure(figsize=inches, dpi=DOTS_PER_INCH, facecolor=theme.ground)
    height = inches[1]
    left = 0.65 / inches[0]
    figure.text(left, 1 - 0.42 / height, title, size=17, weight="bold", color=theme.text, va="baseline")
    figure.text(left, 1 - 0.70 / height, subtitle, size=10.5, color=theme.quiet, va="baseline", gid="subtitle")
    if missing:
        figure.text(left, 0.12 / height, _notes(missing), size=7.5, color=theme.quiet, va="bottom", gid="missing")
    return figure


def frame(figure: Figure, missing: Sequence[str], *, right: float = 0.4, left: float = 0.65) -> dict[str, float]:
    """Return where the axes may be: the room between titles, notes and, in inches, what stands left and right."""
    width, height = figure.get_size_inches()
    lines = _notes(missing).count("\n") + 1 if missing else 0
    return {
        "left": left / width,
        "right": 1 - right / width,
        "top": 1 - 0.95 / height,
        "bottom": (0.62 + 0.14 * lines) / height,
    }


def dress(axes: Axes, theme: Theme, *, x: str = "", y: str = "") -> None:
    """Give axes their colours, a quiet grid and the names of what is along them."""
    axes.set_facecolor(theme.ground)
    axes.grid(visible=True, color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(theme.quiet)
    axes.tick_params(colors=theme.quiet, labelcolor=theme.quiet, length=0, labelsize=9)
    axes.set_xlabel(x, color=theme.quiet, size=9.5)
    axes.set_ylabel(y, color=theme.quiet, size=9.5)


def line_of(driver: DriverStyle, theme: Theme) -> dict[str, Any]:
    """Return what a driver's line looks like."""
    return {"color": theme.colour(driver), "linestyle": DASHED if driver.second else "-", "linewidth": 1.6}


def dot_of(driver: DriverStyle, theme: Theme) -> dict[str, Any]:
    """Return what a driver's dots look like, where lines would join what does not belong together."""
    colour = theme.colour(driver)
    face = theme.ground if driver.second else colour
    return {"color": colour, "linestyle": "none", "marker": "o", "markerfacecolor": face, "markeredgewidth": 1.4}


def legend(
    figure: Figure, drivers: Iterable[DriverStyle], theme: Theme, right: float, top: float, *, dots: bool = False
) -> None:
    """List the drivers in a column at the right, each with its line or dot."""
    look = dot_of if dots else line_of
    handles = [Line2D([], [], label=one.acronym, **look(one, theme)) for one in drivers]
    if not handles:
        return
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(right + 0.008, top + 0.008), frameon=False, fontsize=9,
        labelcolor=theme.text, handlelength=1.0 if dots else 2.2, labelspacing=0.34, borderaxespad=0,
    )  # fmt: skip


def halo(theme: Theme) -> list[AbstractPathEffect]:
    """Return what keeps text readable that stands on lines."""
    return [withStroke(linewidth=3, foreground=theme.ground)]


def spread(wanted: Sequence[float], apart: float) -> list[float]:
    """Return places as near to the wanted ones as may be, in their order, no two nearer than so much.

    >>> spread([1.0, 1.1, 5.0], 1.0)
    [0.55, 1.55, 5.0]
    """
    groups: list[list[float]] = []
    order = sorted(range(len(wanted)), key=lambda at: wanted[at])
    members: list[list[int]] = []
    for at in order:
        groups.append([wanted[at]])
        members.append([at])
        while (
            len(groups) > 1
            and _middle(groups[-1]) - _middle(groups[-2]) < apart * (len(groups[-1]) + len(groups[-2])) / 2
        ):
            last, last_members = groups.pop(), members.pop()
            groups[-1] += last
            members[-1] += last_members
    places = [0.0] * len(wanted)
    for group, some in zip(groups, members, strict=True):
        first = _middle(group) - apart * (len(group) - 1) / 2
        for rank, at in enumerate(some):
            places[at] = first + rank * apart
    return places


def minutes_and_seconds(seconds: float, _: Any = None) -> str:
    """Return a lap time as it is printed.

    >>> minutes_and_seconds(76.252), minutes_and_seconds(59.5), minutes_and_seconds(float("nan"))
    ('1:16.252', '59.500', 'no time')
    """
    if np.isnan(seconds):
        return "no time"
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    rest = f"{milliseconds / 1000:06.3f}"
    return f"{minutes}:{rest}" if minutes else rest


def lap_time_ticks(axes: Axes) -> None:
    """Write lap times along y, as short as they are exact."""

    def shown(seconds: float, _: Any) -> str:
        text = minutes_and_seconds(seconds)
        return text[:-4] if text.endswith(".000") else text.rstrip("0")

    axes.yaxis.set_major_formatter(FuncFormatter(shown))


def known(values: Numbers) -> Numbers:
    """Return the values that are known."""
    return values[~np.isnan(values)]


def subtitle_of(tables: SessionTables) -> str:
    """Return what a session is called, with its year and day."""
    scope = tables.session.scope
    day = "" if scope.date_start is None else f", {scope.date_start:%d %B %Y}"
    return f"{scope.year} {scope.name}{day}"


def image(figure: Figure, path: Path) -> bytes:
    """Return the bytes of a picture in the format that the name of its file ends in."""
    kind = path.suffix.removeprefix(".").lower()
    # Without these, a picture would differ from minute to minute.
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    content = io.BytesIO()
    with plain(), warnings.catch_warnings():
        # A name in a script that the font has not is drawn with boxes.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(content, format=kind, facecolor=figure.get_facecolor(), metadata=metadata)
    return content.getvalue()


def _middle(group: Sequence[float]) -> float:
    return sum(group) / len(group)


def _notes(missing: Sequence[str]) -> str:
    shown = [textwrap.shorten(text, _NOTE_CHARACTERS, placeholder=" ...") for text in missing[:_NOTES_SHOWN]]
    if len(missing) > _NOTES_SHOWN:
        shown[-1] = f"{len(missing) - _NOTES_SHOWN + 1} more things are missing"
    return "\n".join(shown)
