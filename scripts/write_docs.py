"""Writes what of the documentation can be derived from the code: docs/cli.md and docs/tables.md.

Usage: .venv/bin/python scripts/write_docs.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from f1hbase.cli.commands import cli
from f1hbase.model.catalog import ENDPOINTS, HISTORY_ENDPOINTS, TIMING, Endpoint, KeyHash, KeyInt, KeyText, KeyWord
from simulator.cli import main as simulator

DOCS = Path(__file__).resolve().parent.parent / "docs"

_WIDTH = 110

_CLI_HEAD = """# Command line

Written by `scripts/write_docs.py` from the commands' own `--help`.

`python hbase_populate_openF1.py` and `f1hbase` are the same. Each option can also be given as `F1HBASE_<OPTION>` in the
environment (`F1HBASE_NUM_SESSIONS=5`) or as a key of `f1hbase.toml` (`num-sessions = 5`); the flag wins over the
environment, the environment over the file. OpenF1's credentials have no flags, which others could see:
`F1HBASE_API_USERNAME` and `F1HBASE_API_PASSWORD`, or `api-username` and `api-password` in the file.
"""

_TABLES_HEAD = """# Tables and row keys

Written by `scripts/write_docs.py` from the catalogue (`f1hbase/model/catalog.py`).

Row keys are plain text: components joined with `#`, spelt as the API's JSON spells them. In a text component `%` is
written `%25` and `#` is written `%23`. `{S}` is `{year}#{meeting_key}#{session_key}`; the year is the meeting's. End the
prefix of a scan with `#`, as driver 1 is not driver 10.

A cell is `family:field`, for each field that is not in the key and not null. A record that would have no cell has one
with the empty qualifier, `family:`. **Text** fields hold the string as it is; a value there that is no text has an
empty cell `<field>%json` beside it. **Every other** field describes itself: JSON (`328`, `75.0`, `true`, `[2049,null]`),
or a text that would not parse as JSON as it stands (`+1 LAP`). `f1hbase.stores.hbase.codec.decode` turns a row back into its record.

Records of one instant (car data, location, intervals, position) or of one lap (laps, pit) share a row, each in its own
family.
"""

_HISTORY_HEAD = """## f1_history

Results since 1950, loaded with `--from jolpica` ([jolpica.md](jolpica.md)); the table is there only where some were loaded.
Row keys begin with the season, or with season and round. Cells are as in `f1_data`. `{number}` is `-` where a car has none.
"""

_REPORTS = """
## f1_reports

| row key | what it is |
| --- | --- |
| `run#{run_id}` | a run: `meta` its settings, what it was asked for, start, end, exit code; `stats` counts; `errors` counts by kind. The ids sort by time |
| `unit#{S}#{endpoint}#{driver or -}#{window start or -}#{window end or -}` | a unit of work (`{S}` is `{year}#{meeting_key}#-` for a meeting, `1991#199100#199105` for the fifth race of 1991 in `f1_history`): `meta` status, run, source, epoch, when it was fetched, drivers seen; `stats` records, rows, duplicates, quarantined, bytes, attempts, seconds, checksum; `errors:last` |
| `quarantine#{S}#{endpoint}#{sha256}` | a record that could not be stored: `meta:record` its JSON, `errors:reason`, and the unit and run it came with |
| `file#{md5}` | a file that `ingest` has stored, with `--catalogue hbase`: `meta` basename, headers (JSON), md5, url, when it was recorded; `stats` size, version |
| `lease#{year}#{meeting_key}` | who is loading a meeting, or was the last to: `meta:lease`; how often each of its sessions was rolled back: `meta:epochs` |
| `live#{S}#{instance}` | how a live instance stands, refreshed every 3 seconds: `meta:state`, `meta:at`, `meta:host`, `meta:pid`; `stats` rows, lag, latency, bytes that wait; `errors:last` |
| `livemessage#{S}#{time}#{topic}#{hash}` | a message that live instances share: `meta:body`, and `meta:by-{instance}` for each that has had it; deleted when the session is over |

A unit is `done`; or `provisional`, fetched before its records had settled (48 hours after the session; 14 days for
results, grids and championships), and asked for once more then; or `partial`, fetched while the session was going on; or
`failed`. A done unit without any record, where such sessions have some, is asked for again 2, 14 and 60 days after the
session. A line of an older epoch than its session's counts for nothing: the session was rolled back since.
"""


def cli_reference() -> str:
    """Return docs/cli.md."""
    parts = [_CLI_HEAD, *_help_of(cli, "f1hbase"), *_help_of(simulator, "python -m simulator")]
    return "\n".join(parts)


def tables_reference() -> str:
    """Return docs/tables.md."""
    lines = [_TABLES_HEAD, "## f1_data", "", "| endpoint | family | row key | units |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{endpoint.name}` | `{endpoint.family}` | `{_row_key(endpoint)}` | {_units(endpoint)} |"
        for endpoint in ENDPOINTS.values()
    ]
    lines += ["", "`{hash}`: the first 8 hex digits of the SHA-256 of the JSON array of the fields named below.", ""]
    for endpoint in ENDPOINTS.values():
        lines += [f"### {endpoint.name}", "", *_fields(endpoint), ""]
    lines += [_HISTORY_HEAD, "| endpoint | family | row key | since | units |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| `{one.name}` | `{one.family}` | `{_row_key(one)}` | {one.first_year} | {_units(one)} |"
        for one in HISTORY_ENDPOINTS.values()
    ]
    lines.append("")
    for endpoint in HISTORY_ENDPOINTS.values():
        lines += [f"### {endpoint.name}", "", *_fields(endpoint), ""]
    return "\n".join(lines) + _REPORTS


def _help_of(command: click.Command, name: str, parent: click.Context | None = None) -> list[str]:
    own: dict[str, Any] = {**command.context_settings, "max_content_width": _WIDTH, "terminal_width": _WIDTH}
    context = click.Context(command, info_name=name, parent=parent, **own)
    lines = [f"## {context.command_path}", "", "```", command.get_help(context), "```", ""]
    if isinstance(command, click.Group):
        for sub in command.list_commands(context):
            found = command.get_command(context, sub)
            if found is not None:
                lines += _help_of(found, sub, context)
    return lines


def _units(endpoint: Endpoint) -> str:
    if endpoint.sampled:
        return "windows of time, all drivers"
    if endpoint.dataset is not TIMING:
        return "one a season" if endpoint.of_meeting else "one a race"
    return "one a meeting" if endpoint.of_meeting else "one a session"


def _row_key(endpoint: Endpoint) -> str:
    components = ["{year}#{meeting_key}" if endpoint.of_meeting else "{S}"]
    if not endpoint.dataset.led_by_year:
        components = [f"{{{field}}}" for field in endpoint.scope_fields]
    for part in endpoint.key:
        match part:
            case KeyInt(field) | KeyText(field):
                components.append(f"{{{field}}}")
            case KeyWord(word):
                components.append(word)
            case KeyHash():
                components.append("{hash}")
    return "#".join(components)


def _fields(endpoint: Endpoint) -> list[str]:
    in_key = {*endpoint.scope_fields, *endpoint.key_fields}
    cells = [field for field in endpoint.fields if field not in in_key]
    text = [field for field in cells if field in endpoint.text]
    other = [field for field in cells if field not in endpoint.text]
    lines = []
    for name, fields in (("text", text), ("describing themselves", other)):
        if fields:
            lines.append(f"Cells, {name}: {', '.join(f'`{endpoint.family}:{field}`' for field in sorted(fields))}.")
    hashed = [part.fields for part in endpoint.key if isinstance(part, KeyHash)]
    lines += [f"`{{hash}}` is of `[{', '.join(fields)}]`." for fields in hashed]
    return lines


def main() -> None:
    """Write both files."""
    DOCS.joinpath("cli.md").write_text(cli_reference(), encoding="utf-8")
    DOCS.joinpath("tables.md").write_text(tables_reference(), encoding="utf-8")


if __name__ == "__main__":
    main()
