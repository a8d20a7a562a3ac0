"""The track and the telemetry of laps as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from f1hbase.charts import LapTrace, SessionTables, TrackOutline, lap_times, lap_traces, track_outline
from f1hbase.charts.tables import Numbers
from f1hbase.operations.plot.style import (
    Picture,
    Theme,
    dress,
    frame,
    minutes_and_seconds,
    new_figure,
    subtitle_of,
)

_SLOW_TO_FAST = LinearSegmentedColormap.from_list("speed", ["#3b1f8f", "#8b2fc9", "#e0457b", "#f98e2b", "#f4d13d"])
_SLOW_TO_FAST_ON_LIGHT = LinearSegmentedColormap.from_list(
    "speed", ["#22105e", "#6d1fa8", "#c22f6d", "#e0741a", "#e0b000"]
)

_SCALES = (50.0, 100.0, 200.0, 250.0, 500.0, 1000.0)

_LINES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.4, 1.2, 1.4)))
"""Of several laps of one driver, and of drivers of one team."""

_PANELS: tuple[tuple[str, str, float], ...] = (
    ("delta", "Gap, s", 1.1), ("speed", "Speed, km/h", 2.6), ("throttle", "Throttle, %", 1.0),
    ("brake", "Brake, %", 0.7), ("n_gear", "Gear", 1.0), ("rpm", "RPM", 1.0), ("drs", "DRS", 0.45),
)  # fmt: skip


def draw_track(tables: SessionTables, lap: tuple[int, int] | None, theme: Theme) -> Picture:
    """Draw the track as one lap drew it, in the colours of its speed."""
    outline = track_outline(tables, lap)
    figure = new_figure("Track", subtitle_of(tables), outline.missing, theme, (10.0, 8.0))
    axes = figure.add_axes((0.05, 0.035, 0.9, 0.84))
    axes.set_facecolor(theme.ground)
    axes.set_axis_off()
    axes.set_aspect("equal", adjustable="datalim")
    if outline.driver is None:
        return Picture(figure, outline.missing, is_empty=True)
    axes.plot(outline.x, outline.y, color=theme.grid, linewidth=11, solid_capstyle="round", solid_joinstyle="round")
    coloured = not np.isnan(outline.speed).all()
    points = np.column_stack([outline.x, outline.y])
    line = LineCollection(
        [points[at : at + 2] for at in range(len(points) - 1)], linewidths=5, capstyle="round", gid="outline",
        cmap=_SLOW_TO_FAST if theme.is_dark else _SLOW_TO_FAST_ON_LIGHT,
        colors=None if coloured else theme.colour(outline.driver),
    )  # fmt: skip
    if coloured:
        line.set_array((outline.speed[:-1] + outline.speed[1:]) / 2)
    axes.add_collection(line)
    axes.margins(0.09)
    axes.autoscale_view()
    _start(axes, outline, theme)
    _scale(axes, outline, theme)
    if coloured:
        place = figure.add_axes((0.62, 0.905, 0.31, 0.016))
        bar = figure.colorbar(line, cax=place, orientation="horizontal")
        bar.outline.set_visible(False)
        place.tick_params(colors=theme.quiet, length=0, labelsize=8.5)
        laps = lap_times(tables, [outline.driver.number])
        (seconds,) = laps.seconds[laps.lap_number == outline.lap_number]
        told = f"Speed of {outline.driver.acronym} in lap {outline.lap_number} ({minutes_and_seconds(seconds)}), km/h"
        place.set_title(told, size=9, color=theme.quiet, loc="left", pad=5)
    return Picture(figure, outline.missing, is_empty=False)


def draw_telemetry(tables: SessionTables, laps: Sequence[tuple[int, int | None]], theme: Theme) -> Picture:
    """Draw laps over the distance below one another: gap to the first lap, speed, throttle, brake, gear, RPM, DRS."""
    chart = lap_traces(tables, laps)
    if not chart.laps:
        return Picture(new_figure("Telemetry", subtitle_of(tables), chart.missing, theme), chart.missing, is_empty=True)
    panels = [panel for panel in _PANELS if panel[0] != "delta" or len(chart.laps) > 1]
    figure = new_figure("Telemetry", subtitle_of(tables), chart.missing, theme, (12.0, 10.0))
    room = frame(figure, chart.missing, left=0.95)
    grid = figure.add_gridspec(
        len(panels), 1, height_ratios=[height for *_, height in panels], hspace=0.13,
        left=room["left"], right=room["right"], top=room["top"] - 0.015, bottom=room["bottom"],
    )  # fmt: skip
    looks = _looks(chart.laps, theme)
    first = None
    for row, (name, title, _) in enumerate(panels):
        axes = figure.add_subplot(grid[row], sharex=first)
        first = first or axes
        dress(axes, theme, y=title)
        axes.yaxis.set_label_coords(-0.052, 0.5)
        for trace, look in zip(chart.laps, looks, strict=True):
            steps = name in ("n_gear", "drs", "brake")
            axes.plot(
                trace.distance, _values(trace, name), drawstyle="steps-post" if steps else "default",
                gid=f"{name}-{trace.driver.number}-{trace.lap_number}", **look,
            )  # fmt: skip
        axes.margins(x=0.0, y=0.08)
        if name == "drs":
            axes.set_ylim(-0.3, 1.3)
            axes.set_yticks([0, 1], ["shut", "open"])
        elif name == "n_gear":
            axes.set_yticks(range(0, 9, 2))
        elif name == "brake":
            axes.set_yticks([0, 100])
        else:
            axes.yaxis.set_major_locator(MaxNLocator(3 if name != "speed" else 6))
        if name == "rpm":
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        if name == "delta":
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(value, 6):+g}" if value else "0"))
            axes.axhline(0, color=theme.quiet, linewidth=0.7, zorder=1)
        axes.tick_params(labelbottom=row == len(panels) - 1)
        axes.spines["bottom"].set_visible(row == len(panels) - 1)
        if row == len(panels) - 1:
            axes.set_xlabel("Distance, m", color=theme.quiet, size=9.5)
    names = [
        f"{trace.driver.acronym}  lap {trace.lap_number}  {minutes_and_seconds(trace.lap_seconds)}"
        for trace in chart.laps
    ]
    figure.legend(
        handles=[Line2D([], [], **look) for look in looks], labels=names, loc="lower right",
        bbox_to_anchor=(room["right"], room["top"] - 0.005), ncols=4, frameon=False, fontsize=9.5,
        labelcolor=theme.text, handlelength=2.6, columnspacing=1.8, borderaxespad=0,
    )  # fmt: skip
    return Picture(figure, chart.missing, is_empty=False)


# --- how ---


def _values(trace: LapTrace, name: str) -> Numbers:
    values: Numbers = getattr(trace, name)
    return values


def _looks(laps: Sequence[LapTrace], theme: Theme) -> list[dict[str, Any]]:
    """Return how each lap is drawn: in the driver's colour, with another line where a colour comes again."""
    seen: dict[str, int] = {}
    looks: list[dict[str, Any]] = []
    for trace in laps:
        colour = theme.colour(trace.driver)
        again = seen.get(colour, 0)
        seen[colour] = again + 1
        looks.append({"color": colour, "linestyle": _LINES[again % len(_LINES)], "linewidth": 1.4})
    return looks


def _start(axes: Axes, outline: TrackOutline, theme: Theme) -> None:
    """Mark where the lap begins, and which way it goes."""
    at = int(np.searchsorted(outline.distance, outline.length * 0.012))
    x, y = outline.x, outline.y
    east, north = x[at] - x[0], y[at] - y[0]
    length = float(np.hypot(east, north)) or 1.0
    east, north = east / length, north / length
    half = outline.length * 0.008
    axes.plot(
        [x[0] - north * half, x[0] + north * half], [y[0] + east * half, y[0] - east * half], color=theme.text,
        linewidth=2.5, gid="start", solid_capstyle="butt", zorder=4,
    )  # fmt: skip
    reach, side = outline.length * 0.03, outline.length * 0.017
    axes.annotate(
        "", (x[0] + north * side + east * reach, y[0] - east * side + north * reach),
        (x[0] + north * side, y[0] - east * side),
        arrowprops={"arrowstyle": "-|>", "color": theme.text, "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0},
    )  # fmt: skip


def _scale(axes: Axes, outline: TrackOutline, theme: Theme) -> None:
    """Draw a line of so many metres at the lower left, and say how long the outline is."""
    wide = max(float(np.ptp(outline.x)), float(np.ptp(outline.y)))
    metres = max((one for one in _SCALES if one < wide * 0.3), default=_SCALES[0])
    left, low = axes.get_xlim()[0], axes.get_ylim()[0]
    axes.plot([left, left + metres], [low, low], color=theme.quiet, linewidth=2, solid_capstyle="butt")
    axes.text(left, low + wide * 0.012, f"{metres:.0f} m", color=theme.quiet, size=9)
    axes.text(
        axes.get_xlim()[1], low, f"outline {outline.length:,.0f} m", color=theme.quiet, size=9, ha="right"
    )  # fmt: skip
