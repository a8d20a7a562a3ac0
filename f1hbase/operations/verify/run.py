"""Compares the table with what the reports say of it. Reads only."""

from __future__ import annotations

import logging
import secrets
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from time import monotonic

from f1hbase.cli.options import Settings
from f1hbase.cli.scan_progress import ScanDisplay, make_scan_display
from f1hbase.credentials import Credentials
from f1hbase.errors import F1HBaseError
from f1hbase.model.catalog import ENDPOINTS, Endpoint
from f1hbase.model.coverage import UnitState
from f1hbase.model.units import Scope
from f1hbase.operations.verify.reconcile import Difference, FamilyCount, Kind, Reconciliation
from f1hbase.operations.verify.report import Depth, EndpointResult, FamilyTotal, ScopeResult, Verification
from f1hbase.operations.verify.row_counter import count_rows, find_hbase_command
from f1hbase.operations.verify.sample import Sample, compare_with_api
from f1hbase.operations.verify.scope import RequestedScope, requested_scope_of, requested_scopes
from f1hbase.state.hbase.brief import described, endpoints_of, own_key, parse_scope
from f1hbase.state.hbase.leases import lease_of
from f1hbase.state.hbase.reports import HBaseReports
from f1hbase.stores.hbase.codec import SEPARATOR
from f1hbase.stores.hbase.connector import KEYS_ONLY, ONE_CELL_KEYS_ONLY, HBaseConnector, find_gateways
from f1hbase.stores.hbase.schema import Tables

_log = logging.getLogger(__name__)

_TICK_ROWS = 5_000
"""How many rows are counted between two looks at the clock."""

_FOREIGN_KEYS = 100
"""How many row keys that are none of f1hbase's are named; looking for sessions the reports do not know ends there."""

_AFTER_SEPARATOR = b"$"
"""The byte after `#`: a scope with this behind it comes after all keys of the scope."""


def verify(settings: Settings, credentials: Credentials | None = None, depth: Depth | None = None) -> Verification:
    """Compare the table with the reports.

    Args:
        settings: Where HBase is, and which years, meetings, sessions and endpoints; by default all that is known.
        credentials: Those for the API, if it is asked.
        depth: How closely to look.

    Raises:
        UnreachableError: If HBase, or the API that is to be asked, is away.
        F1HBaseError: If there is nothing to compare; says why.
    """
    started = monotonic()
    depth = depth or Depth()
    hbase_command = find_hbase_command() if depth.row_counter else None
    gateways = find_gateways(settings.gateways, settings.hbase_transport, settings.hbase_protocol)
    connector = HBaseConnector(gateways, settings.patience.total_seconds())
    tables = Tables(settings.table_prefix)
    try:
        verifier = _Verifier(settings, depth, connector, tables)
        verifier.run()
        if hbase_command is not None:
            verifier.count_with_row_counter(hbase_command)
        sample = verifier.sample
        if sample is not None and sample.units:
            read = partial(_rows_of, connector, tables.data)
            verifier.result.comparisons = compare_with_api(settings, credentials, sample.units, read)
            verifier.result.differences += [d for one in verifier.result.comparisons for d in one.differences()]
    finally:
        connector.close()
    verifier.result.seconds = monotonic() - started
    return verifier.result


class _Verifier:
    """Goes through the sessions, one after the other."""

    def __init__(self, settings: Settings, depth: Depth, connector: HBaseConnector, tables: Tables) -> None:
        seed = secrets.randbelow(2**32) if depth.seed is None else depth.seed
        depth = Depth(depth.deep, depth.against_api, seed if depth.against_api else None, depth.row_counter)
        self.result = Verification(depth)
        self.sample = Sample(depth.against_api, seed) if depth.against_api else None
        self._settings = settings
        self._depth = depth
        self._connector = connector
        self._tables = tables
        self._reports = HBaseReports(connector, tables.reports)
        self._reported: Counter[str] = Counter()
        self._inexact: set[str] = set()

    def run(self) -> None:
        """Compare everything but for what the API says."""
        self._reports.check_there()
        if self._tables.data not in self._connector.tables():
            raise F1HBaseError(
                f"there is no table '{self._tables.data}', although '{self._tables.reports}' is there: it was dropped "
                "or renamed. A load creates it anew; drop the table of reports first, so that all is loaded again."
            )
        runs = {run.run_id: run.meta for run in self._reports.runs()}
        asked = requested_scopes(runs.items())
        quarantined = self._quarantined()
        prefixes = [*self._prefixes_of_reports(), *asked, *quarantined, *self._prefixes_of_table()]
        scopes = self._selected(prefixes)
        self._say_who_loads(scopes)
        display = make_scan_display(len(scopes))
        try:
            for scope in scopes:
                states = self._reports.unit_states(scope)
                wanted = [*asked.get(scope.prefix, ())]
                named = {wish.run for wish in wanted}
                # Runs that did not yet write down their sessions.
                writers = {state.run for state in states if state.run in runs} - named
                wanted += [requested_scope_of(run, runs[run]) for run in sorted(writers)]
                self._verify(scope, states, wanted, quarantined.get(scope.prefix, {}), display)
        finally:
            display.close()

    def count_with_row_counter(self, hbase_command: str) -> None:
        """Compare what RowCounter finds in each family with what the reports say, once `run` has read them."""
        for family, reported in self._reported.items():
            if not reported:
                continue
            _log.info("counting the rows of the family '%s' with HBase's RowCounter", family)
            found = count_rows(hbase_command, self._tables.data, family)
            exact = family not in self._inexact
            self.result.families[family] = FamilyTotal(reported, found, exact)
            if exact and found != reported:
                detail = f"RowCounter finds {found:,} rows in the family '{family}', the reports say {reported:,}"
                self.result.differences.append(Difference(Kind.ROW_COUNTER, detail, expected=reported, found=found))

    def _verify(
        self,
        scope: Scope,
        states: Sequence[UnitState],
        asked: Sequence[RequestedScope],
        quarantined: dict[str, int],
        display: ScanDisplay,
    ) -> None:
        scope = described(self._connector, self._tables.data, scope)
        endpoints = endpoints_of(scope)
        wanted = [endpoint for endpoint in endpoints if endpoint.name in self._settings.endpoints]
        if not wanted:
            return
        reconciliations = {endpoint.name: Reconciliation(endpoint, scope, states, asked) for endpoint in wanted}
        display.begin(scope, sum(reconciliation.reported for reconciliation in reconciliations.values()))
        counted = not self._depth.row_counter
        found = self._count_families(scope, reconciliations, endpoints, display) if counted else []
        by_endpoint = {
            name: list(reconciliation.differences(counted=counted, deep=self._depth.deep))
            for name, reconciliation in reconciliations.items()
        }
        rows = sum(reconciliation.rows for reconciliation in reconciliations.values())
        if asked and not states and not rows:
            detail = f"asked for by run {asked[-1].run}, and nothing of it is loaded"
            found.append(Difference(Kind.NOTHING, detail, scope))
            by_endpoint = {name: [] for name in reconciliations}
        results = {
            name: EndpointResult(
                units=reconciliation.units,
                reported=reconciliation.reported,
                found=reconciliation.rows if counted else None,
                is_exact=reconciliation.is_exact,
                gaps=reconciliation.gaps,
                longest_gaps=tuple(sorted(reconciliation.longest_gaps, reverse=True)),
                differences=len(by_endpoint[name]),
            )
            for name, reconciliation in reconciliations.items()
        }
        for name, reconciliation in reconciliations.items():
            self._reported[ENDPOINTS[name].family] += reconciliation.reported
            if not reconciliation.is_exact:
                self._inexact.add(ENDPOINTS[name].family)
            if self.sample is not None:
                self.sample.offer(scope, reconciliation)
        found += [difference for differences in by_endpoint.values() for difference in differences]
        kept = {name: count for name, count in quarantined.items() if name in self._settings.endpoints}
        self.result.scopes.append(ScopeResult(scope, results, kept, len(found)))
        self.result.differences += found

    def _count_families(
        self,
        scope: Scope,
        reconciliations: dict[str, Reconciliation],
        endpoints: Sequence[Endpoint],
        display: ScanDisplay,
    ) -> list[Difference]:
        """Count the rows of a scope, and return what belongs to no endpoint at all."""
        foreign = []
        for family in dict.fromkeys(ENDPOINTS[name].family for name in reconciliations):
            mine = [
                reconciliation for name, reconciliation in reconciliations.items() if ENDPOINTS[name].family == family
            ]
            others = [one for one in endpoints if one.family == family and one.name not in reconciliations]
            count = FamilyCount(mine, len(own_key(scope)), others)
            self._count(scope, family, count, display)
            if count.foreign is not None:
                detail = f"no endpoint makes such row keys in the family '{family}': {count.foreign}"
                foreign.append(Difference(Kind.KEYS, detail, scope, found=count.foreign.rows))
        return foreign

    def _count(self, scope: Scope, family: str, count: FamilyCount, display: ScanDisplay) -> None:
        deep = self._depth.deep
        rows = 0
        keyless = any(not endpoint.key for endpoint in ENDPOINTS.values() if endpoint.family == family)
        begin = b"" if keyless else SEPARATOR.encode()
        row_filter = None if deep else ONE_CELL_KEYS_ONLY
        for key, cells in _rows_of(self._connector, self._tables.data, scope, family, begin, row_filter):
            count.add(key, cells if deep else None)
            rows += 1
            if rows == _TICK_ROWS:
                display.count(rows)
                rows = 0
        display.count(rows)

    def _quarantined(self) -> dict[str, dict[str, int]]:
        by_scope: dict[str, dict[str, int]] = defaultdict(dict)
        for (prefix, endpoint), number in self._reports.quarantined().items():
            by_scope[prefix][endpoint] = number
            if self._asks_about_all and endpoint in self._settings.endpoints and parse_scope(prefix) is None:
                self.result.quarantined_elsewhere += number
        return by_scope

    def _prefixes_of_reports(self) -> Iterator[str]:
        for _, components, _ in _leaps(self._connector, self._tables.reports, f"unit{SEPARATOR}".encode()):
            yield SEPARATOR.join(components[:3])

    def _prefixes_of_table(self) -> Iterator[str]:
        """Yield what the table has rows of, and note the rows that are in no scope at all."""
        foreign = 0
        for key, components, families in _leaps(self._connector, self._tables.data):
            prefix = SEPARATOR.join([*components[:3], "-"][:3])
            scope = parse_scope(prefix)
            if scope is None or components[2:3] == ["-"]:
                if self._asks_about_all:
                    self.result.differences.append(
                        Difference(Kind.KEYS, f"the row {key!r} is none that f1hbase makes", found=1)
                    )
                foreign += 1
                if foreign == _FOREIGN_KEYS:
                    _log.warning("so many rows are not of f1hbase that what comes after %r was not looked at", key)
                    return
                continue
            yield prefix
            own = {endpoint.family for endpoint in endpoints_of(scope) if not endpoint.key}
            if len(components) <= 3 and families - own and self._settings.chooses(scope):
                strange = f"its own row has cells of {', '.join(sorted(families - own))}"
                self.result.differences.append(Difference(Kind.KEYS, strange, scope, found=1))

    def _selected(self, prefixes: Iterable[str]) -> list[Scope]:
        """Return the scopes that are asked about, in the order of their keys.

        Raises:
            F1HBaseError: If a year or key was given of which nothing is known.
        """
        known = [scope for prefix in set(prefixes) if (scope := parse_scope(prefix)) is not None]
        scopes = [scope for scope in known if self._settings.chooses(scope)]
        unknown = self._settings.unmet(scopes)
        if unknown:
            raise F1HBaseError(
                f"neither '{self._tables.reports}' nor '{self._tables.data}' knows anything of {', '.join(unknown)}; "
                "'status' says what is loaded."
            )
        return sorted(scopes, key=lambda scope: (scope.year, scope.meeting_key, scope.session_key or 0))

    @property
    def _asks_about_all(self) -> bool:
        return not (self._settings.year or self._settings.meeting_key or self._settings.session_key)

    def _say_who_loads(self, scopes: Iterable[Scope]) -> None:
        for year, meeting_key in sorted({(scope.year, scope.meeting_key) for scope in scopes}):
            lease = lease_of(self._connector, self._tables.reports, Scope(year, meeting_key, None))
            if lease is not None:
                self.result.loading.append(f"meeting {meeting_key} by {lease}")


def _leaps(connector: HBaseConnector, table: str, lead: bytes = b"") -> Iterator[tuple[bytes, list[str], set[str]]]:
    """Yield the first row of each scope and its own one, with the parts of its key after `lead` and its families.

    Leaps over the rest of each scope's rows, so it takes about two short calls a session.
    """
    position = lead
    while True:
        rows = connector.stream(table, lead, start=position, row_filter=KEYS_ONLY, chunk=1)
        key, cells = next(rows, (None, dict[bytes, bytes]()))
        del rows  # and with it the scanner
        if key is None:
            return
        parts = key[len(lead) :].split(SEPARATOR.encode())
        yield (
            key,
            [part.decode(errors="backslashreplace") for part in parts],
            {column.decode().partition(":")[0] for column in cells},
        )
        scope = lead + SEPARATOR.encode().join(parts[:3])
        position = scope + _AFTER_SEPARATOR if len(parts) > 3 else key + b"\0"


def _rows_of(
    connector: HBaseConnector,
    table: str,
    scope: Scope,
    family: str,
    begin: bytes = b"",
    row_filter: bytes | None = None,
) -> Iterable[tuple[bytes, dict[bytes, bytes]]]:
    """Return the rows of a scope that have cells in a family.

    `begin` is what the rest of their keys begins with, after the scope's own key; nothing includes its own row.
    """
    own = own_key(scope)
    rows = connector.stream(table, own + begin, columns=[family.encode()], row_filter=row_filter)
    if begin:
        return rows
    # The key of a session may be what another one's begins with.
    below = own + SEPARATOR.encode()
    return (row for row in rows if row[0] == own or row[0].startswith(below))
