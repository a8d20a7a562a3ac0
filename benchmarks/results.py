"""What a run found, as tables: medians, ratios, and the generated parts of a page of documentation."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import psutil

from benchmarks.errors import BenchmarkError
from benchmarks.measuring import MB, Measurement

_PER_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class Spread:
    """Some values of the same thing."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one, or the mean of the middle two."""
        return median(self.values)

    @property
    def low(self) -> float:
        """The least."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The greatest."""
        return max(self.values)


@dataclass(frozen=True, slots=True)
class Summary:
    """The runs of one contender taken together.

    Attributes:
        rows: How many rows a run put.
        rate: Rows a second.
        cpu: The medians of processor seconds for 100,000 rows, by process.
        peak: The most memory that one process ever had, in bytes, by kind of process.
        notes: The medians of what else was noted.
    """

    rows: int
    rate: Spread
    cpu: dict[str, float]
    peak: dict[str, int]
    notes: dict[str, float]


def summarize(runs: Sequence[Measurement]) -> Summary:
    """Take the runs of a contender together; there must be one at least."""
    return Summary(
        rows=runs[0].rows,
        rate=Spread(tuple(run.rate for run in runs)),
        cpu={name: median(run.cpu[name] / run.rows * _PER_ROWS for run in runs) for name in runs[0].cpu},
        peak={kind: max(run.peak.get(kind, 0) for run in runs) for kind in runs[0].peak},
        notes={name: median(run.notes[name] for run in runs) for name in runs[0].notes},
    )


def ratio(one: Spread | None, other: Spread | None) -> str:
    """Return the quotient of two medians with two or three significant digits; a dash where there is nothing."""
    if one is None or other is None or not other.median:
        return "-"
    quotient = one.median / other.median
    return f"{quotient:.2f}" if quotient < 10 else f"{quotient:.0f}"


def number(value: float | None) -> str:
    """Return a value for people: thousands parted, and digits after the point only where they say something."""
    if value is None:
        return "-"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def megabytes(size: float | None) -> str:
    """Return a size in millions of bytes."""
    return "-" if not size else number(size / MB)


def spread(values: Spread) -> str:
    """Return the least and the greatest value."""
    return f"{number(values.low)} to {number(values.high)}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1) -> str:
    """Return a table in Markdown that is also aligned for reading as it is; the first `texts` columns are texts."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(header))]
    rule = ["-" * width if column < texts else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    padded = (
        [cell.ljust(width) if column < texts else cell.rjust(width)
         for column, (cell, width) in enumerate(zip(line, widths, strict=True))]
        for line in [lines[0], rule, *lines[1:]]
    )  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def replace_part(page: str, name: str, body: str) -> str:
    """Return a page with a generated part replaced; the rest stays as it is.

    A part is what stands between `<!-- NAME: begin -->` and `<!-- NAME: end -->`, each on a line of its own.

    Raises:
        BenchmarkError: If the page has no such part, or several.
    """
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(end) < page.index(begin):
        raise BenchmarkError(f"the page needs one line '{begin.strip()}' and one '{end.strip()}' after it")
    before, _, rest = page.partition(begin)
    return f"{before}{begin}\n{body.strip()}\n\n{end}{rest.partition(end)[2]}"


def write_part(path: Path, name: str, body: str) -> None:
    """Replace a generated part of a page in its file."""
    path.write_text(replace_part(path.read_text(encoding="utf-8"), name, body), encoding="utf-8")


def machine(hbase: str, *, now: datetime | None = None) -> str:
    """Say on what was measured, and when; neither the machine's name nor any path."""
    memory = psutil.virtual_memory().total / 2**30
    day = now or datetime.now(UTC)
    return (
        f"{os.cpu_count()} cores{_processor()}, {memory:.0f} GB of memory, {platform.system()}; "
        f"Python {platform.python_version()}, Java {_java()}, {hbase}; {day:%Y-%m-%d}"
    )


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return f" ({found[1].strip()})" if found else ""


def _java() -> str:
    java = Path(os.environ["JAVA_HOME"], "bin", "java") if "JAVA_HOME" in os.environ else "java"
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "([^"]+)"', told)
    return found[1] if found else "unknown"
