"""What a picture is asked for by, looked at before anything is read; needs no drawing library."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from f1hbase.errors import ConfigError, SetupError

FORMATS = ("png", "svg", "pdf")

_OF_LAPS = ("track", "telemetry")

KINDS = ("lap-times", "positions", "stints", *_OF_LAPS)
"""What can be drawn."""

_MOST_LAPS = 8
"""More laps in one picture cannot be told apart."""


@dataclass(frozen=True, slots=True)
class PlotRequest:
    """What to draw.

    Attributes:
        kind: One of `KINDS`.
        drivers: Whose; nobody named means all, of a telemetry the two fastest.
        lap_numbers: Of a telemetry or a track, which laps: one for all drivers, one for each, or several of one driver;
            none named means each driver's fastest.
        output: The file; its name ends in one of `FORMATS`.
        dark: Whether the ground is dark.
    """

    kind: str
    drivers: tuple[int, ...]
    lap_numbers: tuple[int, ...]
    output: Path
    dark: bool = False

    def check(self) -> None:
        """Look whether it can be done, before anything is read.

        Raises:
            ConfigError: If it makes no sense; says what to write.
            SetupError: If the file cannot be written.
        """
        if self.kind not in KINDS:
            raise ConfigError(f"there is no plot '{self.kind}'; there are {', '.join(KINDS)}.")
        if self.output.suffix.lower().removeprefix(".") not in FORMATS:
            formats = ", ".join(f".{one}" for one in FORMATS)
            raise ConfigError(f"'{self.output}' is no picture: its name must end in one of {formats}.")
        if self.lap_numbers and self.kind not in _OF_LAPS:
            raise ConfigError(f"{self.kind} shows all laps; leave out --lap.")
        if self.lap_numbers and not self.drivers:
            raise ConfigError("--lap is a driver's: say whose with --driver.")
        if self.kind == "track" and (len(self.drivers) > 1 or len(self.lap_numbers) > 1):
            raise ConfigError("a track is drawn by one lap: one --driver, and one --lap.")
        if len(self.lap_numbers) > 1 and len(self.drivers) not in (1, len(self.lap_numbers)):
            raise ConfigError(
                f"{len(self.lap_numbers)} laps of {len(self.drivers)} drivers are not clear: give one --lap for all, "
                "one for each --driver, or several of one driver."
            )
        if self.kind == "telemetry" and max(len(self.drivers), len(self.lap_numbers)) > _MOST_LAPS:
            raise ConfigError(f"a telemetry shows {_MOST_LAPS} laps at the most.")
        folder = self.output.parent
        if not folder.is_dir():
            raise SetupError(f"cannot write '{self.output}': there is no folder '{folder}'.")
        if self.output.is_dir():
            raise SetupError(f"cannot write '{self.output}': it is a folder.")
        if not os.access(folder, os.W_OK) or (self.output.exists() and not os.access(self.output, os.W_OK)):
            raise SetupError(f"cannot write '{self.output}': permission denied.")
