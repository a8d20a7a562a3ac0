"""What the command line does, from Python and in the same words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import click

from f1hbase.cli.commands import load_command
from f1hbase.cli.options import Settings, credentials_of
from f1hbase.pipeline.collector import Result
from f1hbase.pipeline.load import load as run


def load(**options: Any) -> Result:
    """Load what is missing; see `f1hbase.load`."""
    known = {item.name for item in fields(Settings)} | {"config"}
    unknown = sorted(options.keys() - known)
    if unknown:
        raise TypeError(f"load() has no option '{unknown[0]}'; 'f1hbase load --help' lists them")
    try:
        # By the command itself, so that environment, file, defaults and checks are the same.
        context = load_command.make_context("load", list(_arguments(options)))
        settings = Settings(**context.params)
        settings.check()
        credentials = credentials_of(context)
    except click.ClickException as error:
        raise ValueError(error.format_message()) from error
    if settings.dry_run:
        raise ValueError(
            "dry_run loads nothing, and there is nobody to print to: 'f1hbase plan' says what there is to do"
        )
    return run(settings, credentials)


def _arguments(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield options as the command line takes them."""
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        for one in value if isinstance(value, list | tuple | set | range) else [value]:
            if one is True:
                yield flag
            elif one is not None and one is not False:
                yield f"{flag}={one}"
