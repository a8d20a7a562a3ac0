"""Values of `f1hbase.values` as types of click, for commands whose options are no settings."""

from __future__ import annotations

from typing import Any

import click

from f1hbase import values


class Value(click.ParamType[Any]):
    """A kind of value.

    Args:
        name: What stands for it in the help.
        parse: Reads a text.
    """

    def __init__(self, name: str, parse: values.Parse) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the text."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def rates() -> Value:
    """Limits such as `3/s,30/m`, or `none`."""
    return Value("rate", values.rates)
