"""The tables: their names, families and options, how they come to be, and whether they are as they should be.

Nothing here drops or alters anything. Thrift 1 can neither set the encoding of blocks nor split a table; `hbase shell`
can.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from f1hbase.errors import F1HBaseError, SchemaError
from f1hbase.model.catalog import DATASETS, HISTORY, TIMING, Dataset
from f1hbase.model.units import Scope, scope_prefix
from f1hbase.stores.hbase.connector import HBaseConnector
from f1hbase.stores.hbase.shell import ShellError, run_shell

_log = logging.getLogger(__name__)

REPORT_FAMILIES = ("meta", "stats", "errors")
"""The column families of `f1_reports`."""

_SAFE_COMPRESSION = "GZ"
"""What every HBase can compress with: Java has it."""

MOST_REGIONS = 100
"""How many regions `f1_data` begins with at the most. Processes work on neighbouring meetings, so only a region a
meeting keeps ten processes in ten regions; all seasons since 2023 have about a hundred meetings. A region server is at
ease with a hundred, of which only those of the meetings under way need memory."""

_ENCODING = "DATA_BLOCK_ENCODING"

_WITHOUT_FAST_DIFF = "nearly three times as much space on disk (measured with GZ)"
"""HFiles of 100,000 real car_data rows after a major compaction, in bytes a row: 10.4 with FAST_DIFF and GZ, 27.8 with
GZ alone, 492 with neither."""

Options = Mapping[str, str]
"""The options of a family, spelt as in `hbase shell`."""

# What `describe` prints in hbase shell.
_TITLE = re.compile(r"Table (\S+) is (?:EN|DIS)ABLED")
_OPTION = re.compile(r"(\w+) => '([^']*)'")


@dataclass(frozen=True, slots=True)
class Tables:
    """The names of the tables of one installation."""

    prefix: str = ""

    def of(self, dataset: Dataset) -> str:
        """Return the table of a data set's records."""
        return f"{self.prefix}_{dataset.table}" if self.prefix else dataset.table

    @property
    def data(self) -> str:
        """The table of what was measured."""
        return self.of(TIMING)

    @property
    def history(self) -> str:
        """The table of results since 1950; there only where some were loaded."""
        return self.of(HISTORY)

    @property
    def reports(self) -> str:
        """The table of progress."""
        return f"{self.prefix}_f1_reports" if self.prefix else "f1_reports"

    @property
    def families(self) -> dict[str, tuple[str, ...]]:
        """The families each table must have that every load needs."""
        return self.families_of([TIMING])

    def families_of(self, datasets: Iterable[Dataset]) -> dict[str, tuple[str, ...]]:
        """Return the families each table must have that is needed for some data sets."""
        return {**{self.of(one): one.families for one in datasets}, self.reports: REPORT_FAMILIES}


@dataclass(frozen=True, slots=True)
class Layout:
    """How tables are stored.

    Attributes:
        compression: How blocks are compressed, such as `GZ`.
        splits: The first row key of each region of `f1_data` but the first. `f1_reports` is not split: a season is
            some ten thousand rows, put a hundred at a time. Nor is `f1_history`, whose source takes hours for it.
    """

    compression: str = _SAFE_COMPRESSION
    splits: tuple[str, ...] = ()

    @property
    def options(self) -> Options:
        """The options that every family has."""
        return {
            _ENCODING: "FAST_DIFF",
            "COMPRESSION": self.compression,
            "BLOOMFILTER": "ROW",
            "VERSIONS": "1",
            "BLOCKCACHE": "true",
        }


def split_points(meetings: Iterable[Scope], regions: int = MOST_REGIONS) -> tuple[str, ...]:
    """Choose where to split `f1_data`.

    Args:
        meetings: Those that are to be loaded; seasons of the history, a table of one region, are passed over.
        regions: How many regions there are to be, if there are as many meetings.

    Returns:
        The first row keys of all regions but the first, in HBase's order; evenly chosen meetings.
    """
    mine = [scope for scope in meetings if scope.dataset is TIMING]
    keys = sorted({scope_prefix(scope.year, scope.meeting_key, None) for scope in mine}, key=str.encode)
    regions = min(regions, len(keys))
    return tuple(keys[number * len(keys) // regions] for number in range(1, regions))


def creation_script(tables: Tables, layout: Layout, datasets: Sequence[Dataset] = (TIMING,)) -> str:
    """Return what to type into `hbase shell` to have the tables; those that exist it leaves alone."""
    return "\n".join(_creations(tables, layout, tables.families_of(datasets)))


def ensure_tables(
    connector: HBaseConnector,
    tables: Tables,
    layout: Layout | None = None,
    shell: str | None = None,
    datasets: Sequence[Dataset] = (TIMING,),
) -> list[str]:
    """Create the tables that are absent and check that those that exist have every family.

    What the shell cannot do is done over Thrift, with a warning that says what is lost.

    Args:
        connector: The connection to HBase.
        tables: The tables.
        layout: How new ones are stored.
        shell: The `hbase` command, if there is one.
        datasets: Whose tables are needed.

    Returns:
        The names of the tables that were absent.

    Raises:
        SchemaError: If a table lacks a family; names them and the command that adds them.
    """
    layout = layout or Layout()
    wanted = tables.families_of(datasets)
    listed = connector.tables()
    absent = [name for name in wanted if name not in listed]
    if absent and shell is not None:
        _create_in_shell(connector, shell, tables, layout, absent, listed)
        listed = connector.tables()
    over_thrift = [
        name for name in absent if name not in listed and _create_over_thrift(connector, tables, layout, name)
    ]
    if over_thrift:
        _say_what_is_lost(over_thrift, tables, layout, shell)
    for name, families in wanted.items():
        present = connector.families(name)
        missing = [family for family in families if family not in present]
        if missing:
            raise SchemaError(
                f"the table '{name}' exists but lacks the column {'family' if len(missing) == 1 else 'families'} "
                f"{', '.join(missing)}. Add with hbase shell:  "
                f"{_alteration(name, dict.fromkeys(missing, layout.options), ' ')}  "
                "or load into tables of another name with --table-prefix."
            )
    return absent


def _create_in_shell(
    connector: HBaseConnector, shell: str, tables: Tables, layout: Layout, absent: Sequence[str], listed: Sequence[str]
) -> None:
    """Have the shell create what is absent; says why if it cannot."""
    _log.info("creating %s with '%s shell', which takes some ten seconds to start", " and ".join(absent), shell)
    known = ", ".join(map(_quote, listed))
    # A command of another cluster would make them there: it has not the tables that the gateway lists.
    other = "raise 'it belongs to another HBase than the Thrift gateway'"
    guard = f"{other} unless ([{known}] - list).empty?"
    try:
        run_shell(shell, "\n".join([guard, *_creations(tables, layout, absent)]))
    except ShellError as error:
        _log.warning("hbase shell did not create %s: %s", " and ".join(absent), error)
        return
    gone = [name for name in absent if name not in connector.tables()]
    if gone:
        _log.warning(
            "'%s shell' created %s, but not in the HBase of the Thrift gateway: it belongs to another one, from which "
            "they can be dropped again", shell, " and ".join(gone),
        )  # fmt: skip


def _create_over_thrift(connector: HBaseConnector, tables: Tables, layout: Layout, table: str) -> bool:
    """Create a table as well as Thrift can; False if somebody else was faster."""
    families = tables.families_of(DATASETS)[table]
    try:
        return connector.create_table(table, families, _thrift_options(layout.compression))
    except F1HBaseError as error:
        if layout.compression == _SAFE_COMPRESSION:
            raise
        _log.warning("'%s' cannot have %s: %s. It gets %s.", table, layout.compression, error, _SAFE_COMPRESSION)
        return connector.create_table(table, families, _thrift_options(_SAFE_COMPRESSION))


def _thrift_options(compression: str) -> dict[str, object]:
    # happybase's own defaults are three versions and no block cache.
    return {
        "max_versions": 1,
        "block_cache_enabled": True,
        "bloom_filter_type": "ROW",
        "compression": compression,
    }


def _say_what_is_lost(created: Sequence[str], tables: Tables, layout: Layout, shell: str | None) -> None:
    splits = tables.data in created and layout.splits
    _log.warning(
        "%s: created over Thrift%s. That cannot set FAST_DIFF, without which they take %s%s. "
        "'schema --check' names the lines for hbase shell that fix it.",
        " and ".join(created),
        "" if shell else ", as there is no command 'hbase' on the PATH",
        _WITHOUT_FAST_DIFF,
        ", nor split points: at first all processes write to one region" if splits else "",
    )


def _creations(tables: Tables, layout: Layout, names: Collection[str]) -> Iterator[str]:
    for name in names:
        families = [f"  {_family(family, layout.options)}" for family in tables.families_of(DATASETS)[name]]
        if name == tables.data and layout.splits:
            families.append(f"  SPLITS => [{', '.join(map(_quote, layout.splits))}]")
        yield f"unless exists {_quote(name)}\n create {_quote(name)},\n" + ",\n".join(families) + "\nend"


def _alteration(table: str, changes: Mapping[str, Options], separator: str = "\n  ") -> str:
    families = f",{separator}".join(_family(name, options) for name, options in changes.items())
    return f"alter {_quote(table)},{separator}{families}"


def _family(name: str, options: Options) -> str:
    return (
        f"{{NAME => {_quote(name)}, {', '.join(f'{option} => {_ruby(value)}' for option, value in options.items())}}}"
    )


def _ruby(value: str) -> str:
    return value if value.isdecimal() or value in {"true", "false"} else _quote(value)


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


# --- whether a table is as it should be ---


@dataclass(frozen=True, slots=True)
class TableCheck:
    """What was found of a table.

    Attributes:
        table: Its name.
        regions: How many it has; 0 if there is no such table.
        families: How many families it should have.
        missing: Those it has not.
        different: By option, what is found and what it should be: the families of which that is true.
        splittable: Whether it is better split.
        encoding_known: Whether the encoding was compared, too; Thrift does not tell.
        layout: What it was compared with.
    """

    table: str
    regions: int
    families: int
    missing: tuple[str, ...]
    different: Mapping[tuple[str, str, str], Sequence[str]]
    splittable: bool
    encoding_known: bool
    layout: Layout = field(repr=False)

    @property
    def well(self) -> bool:
        """Whether nothing is wrong."""
        return bool(self.regions) and not self.missing and not self.different

    def alteration(self) -> str:
        """Return what to type into `hbase shell` to fix it."""
        changes: dict[str, dict[str, str]] = {family: dict(self.layout.options) for family in self.missing}
        for (option, _, wanted), families in self.different.items():
            for family in families:
                changes.setdefault(family, {})[option] = wanted
        return _alteration(self.table, changes)


def check_lines(checks: Iterable[TableCheck]) -> Iterator[str]:
    """Yield what to tell of the tables, the lines that fix them included."""
    for check in checks:
        if not check.regions:
            yield f"{check.table}: there is no such table; 'schema --create' or 'load' creates it"
            continue
        regions = f"{check.regions} region{'s' * (check.regions != 1)}"
        verdict = "as it should be" if check.well else "differs"
        yield f"{check.table}: {check.families - len(check.missing)} families, {regions}: {verdict}"
        if not check.encoding_known:
            yield f"  {_ENCODING} is not checked: only 'hbase shell' tells, and there is none for this HBase"
        if check.regions == 1 and check.splittable:
            table = _quote(check.table)
            yield f"  all processes write to one region; split {table}, 'YEAR#MEETING' parts it at a meeting"
        if check.missing:
            yield f"  missing: {', '.join(check.missing)}"
        for (option, found, wanted), families in check.different.items():
            everywhere = len(families) == check.families
            yield f"  {option} is {found} instead of {wanted}: {'every family' if everywhere else ', '.join(families)}"
        if not check.well:
            yield "  to fix it, in hbase shell (the second line rewrites what is stored already):"
            yield from (f"    {line}" for line in check.alteration().splitlines())
            yield f"    major_compact {_quote(check.table)}"


class SchemaReader(HBaseConnector):
    """A connector that also tells how tables are stored."""

    def descriptions(self, table: str) -> dict[str, Options]:
        """Return the options of each family, as far as Thrift tells them."""
        return self._call(
            lambda c: {_text(name).rstrip(":"): _options(f) for name, f in c.table(table).families().items()}
        )

    def regions(self, table: str) -> int:
        """Return how many regions a table has."""
        return self._call(lambda c: len(c.table(table).regions()))


def check_tables(connector: SchemaReader, tables: Tables, layout: Layout, shell: str | None = None) -> list[TableCheck]:
    """Compare the tables that exist with what they should be.

    Args:
        connector: The connection to HBase.
        tables: The tables.
        layout: What they are compared with, but for the split points.
        shell: The `hbase` command, if there is one; without it the encoding stays unknown.

    Raises:
        UnreachableError: If HBase does not answer.
    """
    listed = connector.tables()
    # The history is not missed where none was loaded.
    wanted = tables.families_of(DATASETS if tables.history in listed else [TIMING])
    over_thrift = {name: connector.descriptions(name) for name in wanted if name in listed}
    in_shell = _shell_descriptions(shell, over_thrift) if shell is not None and over_thrift else {}
    checks = []
    for name, families in wanted.items():
        present = in_shell.get(name) or over_thrift.get(name, {})
        checks.append(
            TableCheck(
                table=name,
                regions=connector.regions(name) if name in over_thrift else 0,
                families=len(families),
                missing=tuple(family for family in families if family not in present),
                different=_different({name: present[name] for name in families if name in present}, layout),
                splittable=name == tables.data,
                encoding_known=name in in_shell,
                layout=layout,
            )
        )
    return checks


def _different(present: Mapping[str, Options], layout: Layout) -> dict[tuple[str, str, str], list[str]]:
    different: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for option, wanted in layout.options.items():
        for family, options in present.items():
            # Thrift does not tell the encoding.
            if options.get(option, wanted) != wanted:
                different[option, options[option], wanted].append(family)
    return different


def _options(descriptor: Mapping[str, Any]) -> Options:
    return {
        "COMPRESSION": _text(descriptor["compression"]),
        "BLOOMFILTER": _text(descriptor["bloom_filter_type"]),
        "VERSIONS": str(descriptor["max_versions"]),
        "BLOCKCACHE": str(descriptor["block_cache_enabled"]).lower(),
    }


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _shell_descriptions(shell: str, over_thrift: Mapping[str, Mapping[str, Options]]) -> dict[str, dict[str, Options]]:
    """Return what the shell says of tables; nothing, and why, if it does not agree with what Thrift says."""
    try:
        output = run_shell(shell, "\n".join(f"describe {_quote(name)}" for name in over_thrift))
    except ShellError as error:
        _log.warning("hbase shell does not describe %s: %s", " and ".join(over_thrift), error)
        return {}
    described = parse_descriptions(output)
    for table, families in over_thrift.items():
        common = {
            name: {key: options.get(key) for key in families.get(name, {})}
            for name, options in described[table].items()
        }
        if common != families:
            _log.warning(
                "'%s shell' belongs to another HBase than the Thrift gateway: '%s' is not the same there", shell, table
            )
            return {}
    return described


def parse_descriptions(output: str) -> defaultdict[str, dict[str, Options]]:
    """Read what `describe` prints in `hbase shell`: by table and family its options."""
    found: defaultdict[str, dict[str, Options]] = defaultdict(dict)
    table = ""
    for line in output.splitlines():
        if title := _TITLE.match(line):
            table = title[1]
        elif line.startswith("{NAME => "):
            options = dict(_OPTION.findall(line))
            found[table][options.pop("NAME")] = options
    return found
