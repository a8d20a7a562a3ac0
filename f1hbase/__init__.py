"""Load Formula 1 data from the OpenF1 API into Apache HBase.

>>> import f1hbase
>>> result = f1hbase.load(mode="latest", num_sessions=10)
>>> result.exit_code, result.overall.all_rows
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from f1hbase.pipeline.collector import Result

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(**options: Any) -> Result:
    """Load what is missing, as `f1hbase load` does, with the same words: `load(year=[2023, 2024], driver=44)`.

    What is not given comes from the environment, else from `f1hbase.toml`, else is the default. For notebooks and
    schedulers; a script calls it below `if __name__ == "__main__":`, as the worker processes import the script, too.

    Args:
        options: The options of the command line, with `_` for `-`; several values as a list; `config` is the file.

    Returns:
        How it went: `exit_code` (0, 1, 3 or 130), `overall` with the counts and the failures by unit, `crashed`.

    Raises:
        TypeError: If there is no such option.
        ValueError: If a value makes no sense; the message says which and what to write.
        f1hbase.errors.F1HBaseError: If nothing could be begun; its message says why and what to do.
    """
    from f1hbase.api import load as run  # what imports the package for its codec alone need not wait for all the rest

    return run(**options)
