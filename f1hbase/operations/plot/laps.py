"""Lap times, positions and stints as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from f1hbase.charts import (
    DriverStyle,
    LapTimes,
    Positions,
    SessionTables,
    lap_times,
    neutralisations,
    positions_by_lap,
    positions_over_time,
    stints,
)
from f1hbase.charts.colours import COMPOUNDS, contrast
from f1hbase.charts.conditions import RED_FLAG, session_start
from f1hbase.charts.tables import Numbers, seconds_between
from f1hbase.operations.plot.style import (
    Picture,
    Theme,
    dot_of,
    dress,
    frame,
    halo,
    known,
    lap_time_ticks,
    legend,
    line_of,
    minutes_and_seconds,
    new_figure,
    spread,
    subtitle_of,
)

_LEGEND_INCHES = 1.0
_LABEL_INCHES = 0.75

_CLASSIFIED = 0.9
"""Who has driven 90 % of the winner's laps is classified (FIA sporting regulations)."""

_ROOM_ABOVE = 0.07
"""What is left free above the slowest lap that tells something, of the height: there stand those beyond."""


def draw_lap_times(tables: SessionTables, drivers: Sequence[int], theme: Theme) -> Picture:
    """Draw the lap times of drivers: of a race by lap, else by when the lap began."""
    chart = lap_times(tables, drivers)
    figure = new_figure("Lap times", subtitle_of(tables), chart.missing, theme)
    room = frame(figure, chart.missing, right=_LEGEND_INCHES, left=0.95)
    axes = figure.subplots(gridspec_kw=room)
    by_lap = tables.is_race
    x = chart.lap_number.astype(float) if by_lap else seconds_between(session_start(tables), chart.date_start) / 60
    dress(axes, theme, x="Lap" if by_lap else "Minutes since the start", y="Lap time")
    low, high = _range(chart)
    outlier = chart.outlier | (chart.seconds > high)
    for style in chart.drivers:
        mine = chart.driver_number == style.number
        look = line_of(style, theme)
        shown = np.where(mine & ~outlier, chart.seconds, np.nan)[mine]
        at = x[mine]
        if by_lap:
            axes.plot(at, shown, gid=f"laps-{style.number}", marker="o", markersize=2.6, **look)
        else:
            axes.plot(at, shown, gid=f"laps-{style.number}", markersize=5, **dot_of(style, theme))
        odd = mine & outlier & ~np.isnan(chart.seconds)
        inside = odd & (chart.seconds <= high)
        axes.plot(
            x[inside], chart.seconds[inside], gid=f"outliers-{style.number}", linestyle="none", marker="x",
            markersize=4, color=look["color"], alpha=0.75,
        )  # fmt: skip
        beyond = odd & (chart.seconds > high)
        axes.plot(
            x[beyond], np.full(beyond.sum(), high + (high - low) * _ROOM_ABOVE * 0.55), gid=f"beyond-{style.number}",
            linestyle="none", marker="^", markersize=3.4, color=look["color"], alpha=0.5,
        )  # fmt: skip
        gone = mine & chart.deleted & (chart.seconds <= high)
        axes.plot(
            x[gone], chart.seconds[gone], gid=f"deleted-{style.number}", linestyle="none", marker="o", markersize=8,
            markerfacecolor="none", color=theme.text, markeredgewidth=0.8,
        )  # fmt: skip
    axes.set_ylim(low, high + (high - low) * _ROOM_ABOVE)
    lap_time_ticks(axes)
    if by_lap:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _shade_laps(axes, chart, theme)
    else:
        _shade_times(axes, tables, theme)
    axes.margins(x=0.015)
    _name_best(axes, chart, x, theme)
    legend(figure, chart.drivers, theme, room["right"], room["top"], dots=not by_lap)
    signs = [
        (Line2D([], [], linestyle="none", marker="x", markersize=5, color=theme.quiet), "pit lap, safety car or slow"),
        (Line2D([], [], linestyle="none", marker="^", markersize=5, color=theme.quiet), "slower than shown"),
    ]
    if (chart.deleted & (chart.seconds <= high)).any():
        ring = Line2D([], [], linestyle="none", marker="o", markersize=8, markerfacecolor="none", color=theme.text)
        signs.append((ring, "time deleted"))
    _signs(figure, signs, room, theme)
    return Picture(figure, chart.missing, not len(known(chart.seconds)))


def draw_positions(tables: SessionTables, drivers: Sequence[int], theme: Theme) -> Picture:
    """Draw the positions of drivers: of a race by lap, else over time."""
    by_lap = tables.is_race
    chart = (positions_by_lap if by_lap else positions_over_time)(tables, drivers)
    figure = new_figure("Positions", subtitle_of(tables), chart.missing, theme)
    room = frame(figure, chart.missing, right=_LABEL_INCHES, left=0.95)
    axes = figure.subplots(gridspec_kw=room)
    dress(axes, theme, x="Lap" if by_lap else "Minutes since the start")
    x = chart.lap_number.astype(float) if by_lap else chart.seconds / 60
    last = float(np.nanmax(x)) if len(known(x)) else 1.0
    for style in chart.drivers:
        mine = chart.driver_number == style.number
        look = line_of(style, theme)
        if by_lap:
            axes.plot(x[mine], chart.position[mine], gid=f"positions-{style.number}", **look)
            continue
        # Twenty cars change places hundreds of times: the changes themselves are drawn faintly.
        at, place = np.append(x[mine], last), np.append(chart.position[mine], chart.position[mine][-1:])
        axes.plot(
            at, place, gid=f"positions-{style.number}", drawstyle="steps-post", color=look["color"], linewidth=0.7,
            alpha=0.35,
        )  # fmt: skip
        axes.hlines(place[:-1], at[:-1], at[1:], color=look["color"], linestyles=look["linestyle"], linewidth=2.0)
    _label_ends(axes, chart, x, last, theme, by_lap=by_lap)
    places = int(chart.position.max()) if len(chart.position) else 20
    axes.set_ylim(places + 0.6, 0.4)
    axes.set_yticks(range(1, places + 1))
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0.0, last)
    if by_lap:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _shade_laps(axes, lap_times(tables), theme)
    else:
        _shade_times(axes, tables, theme)
    return Picture(figure, chart.missing, not len(chart.position))


def draw_stints(tables: SessionTables, drivers: Sequence[int], theme: Theme) -> Picture:
    """Draw the stints of drivers with their tyres, a bar each; used tyres are hatched."""
    chart = stints(tables, drivers)
    count = max(len(chart.drivers), 1)
    inches = (12.0, max(3.2, 1.9 + 0.3 * count))
    figure = new_figure("Tyre stints", subtitle_of(tables), chart.missing, theme, inches)
    room = frame(figure, chart.missing, left=0.85)
    axes = figure.subplots(gridspec_kw=room)
    dress(axes, theme, x="Lap")
    rows = {style.number: row for row, style in enumerate(chart.drivers)}
    longest = int(chart.lap_end.max()) if len(chart.lap_end) else 1
    for at in range(len(chart.driver_number)):
        first, last = int(chart.lap_start[at]), int(chart.lap_end[at])
        compound = str(chart.compound[at]) or "UNKNOWN"
        colour = COMPOUNDS.get(compound, COMPOUNDS["UNKNOWN"])
        ink = max(("#16181d", "#ffffff"), key=lambda one: contrast(one, colour))
        number, used = int(chart.driver_number[at]), chart.tyre_age_at_start[at] > 0
        (bar,) = axes.barh(
            rows[number], last - first + 1, left=first - 0.5, height=0.72, color=colour, edgecolor=theme.ground,
            linewidth=1.2, hatch="////" if used else None,
        )  # fmt: skip
        bar.set_hatch_linewidth(0.6)
        bar.set_gid(f"stint-{number}-{int(chart.stint_number[at])}")
        # A letter of the compound as well: colours alone are not told apart by everybody.
        letter = "" if compound not in COMPOUNDS or "UNKNOWN" in compound else compound[0]
        wide = (last - first + 1) / longest
        text = f"{letter} {last - first + 1}".strip() if wide > 0.05 else letter if wide > 0.018 else ""
        plate = {"boxstyle": "round,pad=0.12", "facecolor": colour, "edgecolor": "none"} if used and text else None
        axes.text(
            (first + last) / 2, rows[number], text, ha="center", va="center_baseline", size=8, color=ink,
            weight="bold", bbox=plate, clip_on=True,
        )  # fmt: skip
    axes.set_yticks(list(rows.values()), [style.acronym for style in chart.drivers])
    for label, style in zip(axes.get_yticklabels(), chart.drivers, strict=True):
        label.set_color(theme.colour(style))
        label.set_fontweight("bold")
    axes.set_ylim(count - 0.4, -0.6)
    axes.set_xlim(0.5, longest + 0.5)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    present = [name for name in COMPOUNDS if name in set(chart.compound)]
    patches = [(Patch(facecolor=COMPOUNDS[name]), name.replace("_", " ").capitalize()) for name in present]
    if (chart.tyre_age_at_start > 0).any():
        hatched = Patch(facecolor=theme.quiet, edgecolor=theme.ground, hatch="////")
        hatched.set_hatch_linewidth(0.6)
        patches.append((hatched, "used before"))
    _signs(figure, patches, room, theme)
    return Picture(figure, chart.missing, not len(chart.driver_number))


# --- how ---


def _range(chart: LapTimes) -> tuple[float, float]:
    """Return the lap times between which the ones that tell something are: a few slow ones do not squeeze the rest."""
    telling = known(chart.seconds[~chart.outlier])
    if not len(telling):
        telling = known(chart.seconds)
    if not len(telling):
        return 60.0, 120.0
    low, high = float(telling.min()), float(np.percentile(telling, 98.5))
    room = max(high - low, 0.5) * 0.06
    return low - room, high + room


def _shade_laps(axes: Axes, chart: LapTimes, theme: Theme) -> None:
    """Shade the laps that a safety car or a red flag slowed for more than half of the drivers."""
    for lap in np.unique(chart.lap_number):
        mine = chart.lap_number == lap
        if chart.neutralised[mine].mean() > 0.5:
            axes.axvspan(lap - 0.5, lap + 0.5, color=theme.slowed, alpha=0.28, linewidth=0, zorder=0.5)


def _shade_times(axes: Axes, tables: SessionTables, theme: Theme) -> None:
    start = session_start(tables)
    for period in neutralisations(tables):
        if not (np.isnat(period.end) or np.isnat(start)):
            first, last = seconds_between(start, np.array([period.start, period.end])) / 60
            colour = theme.stopped if period.kind == RED_FLAG else theme.slowed
            axes.axvspan(first, last, color=colour, alpha=0.28, linewidth=0, zorder=0.5)


def _name_best(axes: Axes, chart: LapTimes, x: Numbers, theme: Theme) -> None:
    """Write whose the session's best lap is beside it, if it is drawn."""
    span = known(x)
    for at in np.flatnonzero((chart.seconds == chart.best_seconds) & ~chart.deleted & ~np.isnan(x))[:1]:
        # Near the edges it stands within the picture.
        along = (x[at] - span.min()) / (float(np.ptp(span)) or 1.0)
        align: Literal["left", "center", "right"] = "left" if along < 0.1 else "right" if along > 0.9 else "center"
        (driver,) = (one for one in chart.drivers if one.number == chart.driver_number[at])
        axes.annotate(
            f"{driver.acronym} {minutes_and_seconds(chart.best_seconds)}", (x[at], chart.seconds[at]), (0, -9),
            textcoords="offset points", ha=align, va="top", size=8.5, weight="bold", color=theme.colour(driver),
            annotation_clip=True, gid="best", path_effects=halo(theme), zorder=5,
        )  # fmt: skip


def _label_ends(axes: Axes, chart: Positions, x: Numbers, last: float, theme: Theme, *, by_lap: bool) -> None:
    """Write each driver's acronym beside its last position, and of a race beside the first one as well.

    Who has driven less than 90 % of the laps is not classified: a cross and the acronym stand where the line ends.
    """
    first_places: list[tuple[float, DriverStyle]] = []
    last_places: list[tuple[float, DriverStyle]] = []
    for style in chart.drivers:
        mine = np.flatnonzero(chart.driver_number == style.number)
        place = float(chart.position[mine[-1]])
        if by_lap and chart.lap_number[mine[0]] == 0:
            first_places.append((float(chart.position[mine[0]]), style))
        if not by_lap or x[mine[-1]] >= _CLASSIFIED * last:
            last_places.append((place, style))
            continue
        end = (x[mine[-1]], place)
        colour = theme.colour(style)
        axes.plot(*end, marker="x", markersize=7, markeredgewidth=2, color=colour, clip_on=False, zorder=4)
        if end[0] > 0:
            axes.annotate(
                style.acronym, end, (7, 0), textcoords="offset points", va="center_baseline", size=8.5, weight="bold",
                color=colour, path_effects=halo(theme), zorder=5,
            )  # fmt: skip
    for side, align, places in ((-0.008, "right", first_places), (1.008, "left", last_places)):
        for place, (_, style) in zip(spread([row[0] for row in places], 1.0), places, strict=True):
            axes.text(
                side, place, style.acronym, transform=axes.get_yaxis_transform(), va="center_baseline", ha=align,
                size=9, weight="bold", color=theme.colour(style),
            )  # fmt: skip
    if by_lap:
        axes.tick_params(axis="y", pad=34)


def _signs(figure: Figure, signs: Sequence[tuple[Line2D | Patch, str]], room: dict[str, float], theme: Theme) -> None:
    """Explain signs in one row at the top right."""
    if signs:
        figure.legend(
            handles=[sign for sign, _ in signs], labels=[text for _, text in signs], loc="lower right",
            bbox_to_anchor=(room["right"], room["top"] + 0.012), ncols=len(signs), frameon=False, fontsize=8.5,
            labelcolor=theme.quiet, handletextpad=0.5, columnspacing=1.5, borderaxespad=0, handlelength=1.4,
        )  # fmt: skip
