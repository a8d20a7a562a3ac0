"""Draws the pictures of docs/plots.md from a simulated race weekend; scripts/screenshots.sh runs it, too.

Usage: .venv/bin/python scripts/plots.py
"""

from __future__ import annotations

import io
import subprocess
import sys
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

_ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(_ROOT))

from simulator import Plan, simulate  # noqa: E402 - the repository is no package

_COLOURS = 96
"""A picture of so many colours looks the same and takes a third of the bytes."""

_RACE, _QUALIFYING = 70_003, 70_002

_PICTURES: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "plot-lap-times": ("lap-times", _RACE, ()),
    "plot-positions": ("positions", _RACE, ("--dark",)),
    "plot-stints": ("stints", _RACE, ()),
    "plot-track": ("track", _RACE, ("--dark",)),
    "plot-telemetry": ("telemetry", _QUALIFYING, ("--driver", "1", "--driver", "16")),
}


def main() -> None:
    """Make every picture."""
    with TemporaryDirectory() as work:
        weekend = Path(work) / "weekend"
        plan = Plan(year=2025, sessions=("practice", "qualifying", "race"), minutes=30, first_day=date(2025, 3, 14))
        for _ in simulate(weekend, plan):
            pass
        for name, (kind, session_key, options) in _PICTURES.items():
            drawn = Path(work) / f"{name}.png"
            subprocess.run(
                [sys.executable, str(_ROOT / "hbase_populate_openF1.py"), "plot", kind, "--session-key",
                 str(session_key), "--from", str(weekend), "-o", str(drawn), *options],
                check=True, cwd=work, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            small = io.BytesIO()
            Image.open(drawn).convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE).save(
                small, "png", optimize=True
            )
            (_ROOT / "screenshots" / f"{name}.png").write_bytes(small.getvalue())
            sys.stdout.write(f"screenshots/{name}.png\n")


if __name__ == "__main__":
    main()
