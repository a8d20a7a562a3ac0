"""The packages that are optional: asked for when they are needed, with the line that installs them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from f1hbase.errors import F1HBaseError

_INSTALL = {
    "pyarrow": "f1hbase[frames]",
    "numpy": "f1hbase[frames]",
    "matplotlib": "f1hbase[plot]",
    "prometheus_client": "f1hbase[metrics]",
}


class MissingPackageError(F1HBaseError, ImportError):
    """A package that is optional is not installed; the message names the line that installs it."""

    exit_code = 2


def need(package: str, purpose: str) -> Any:
    """Return a package.

    Args:
        package: Its name.
        purpose: What it is for, such as `reading tables`.

    Raises:
        MissingPackageError: If it is not installed.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise MissingPackageError(
            f"{purpose} needs {package}, which is not installed: pip install '{_INSTALL.get(package, package)}'"
        ) from error
