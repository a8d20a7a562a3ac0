"""Looks at HBase: its gateways, the tables, and who loads now. Changes nothing there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from time import monotonic

from f1hbase.config import Settings
from f1hbase.errors import F1HBaseError, UnreachableError
from f1hbase.operations.doctor.base import Check, Grade, failed
from f1hbase.state.hbase.brief import HBaseView
from f1hbase.stores.hbase.connector import Gateway, HBaseConnector, find_gateway
from f1hbase.stores.hbase.schema import Tables

_PATIENCE_SECONDS = 5.0


def check_hbase(settings: Settings) -> Iterator[Check]:
    """Look at each gateway, then through the first that answers at the tables and at who loads now."""
    gateways: list[Gateway] = []
    failures: list[Check] = []
    for host, port in settings.gateways:
        began = monotonic()
        try:
            gateway = find_gateway(host, port, settings.hbase_transport, settings.hbase_protocol)
        except UnreachableError as error:
            failures.append(failed("HBase", error, "look at the logs of HBase and of its Thrift gateway"))
            continue
        gateways.append(gateway)
        yield Check(Grade.OK, "HBase", f"{gateway} answers in {(monotonic() - began) * 1000:,.0f} ms")
    # One of several that is down is done without.
    yield from (replace(failure, grade=Grade.WARN if gateways else Grade.FAIL) for failure in failures)
    if not gateways:
        yield from (Check(Grade.SKIP, name, "HBase does not answer") for name in ("tables", "other runs"))
        return
    connector = HBaseConnector(gateways, _PATIENCE_SECONDS)
    try:
        yield from _tables(connector, Tables(settings.table_prefix))
        yield _other_runs(HBaseView(gateways, Tables(settings.table_prefix)))
    except F1HBaseError as error:
        yield failed("tables", error, "look at the logs of HBase")
    finally:
        connector.close()


def _tables(connector: HBaseConnector, tables: Tables) -> Iterator[Check]:
    listed = connector.tables()
    there = [name for name in tables.families if name in listed]
    if there == [tables.reports]:
        found = f"{tables.data} is gone, but {tables.reports} still says what it held: load would not ask for it again"
        fix = f"if the data are lost, drop '{tables.reports}' in hbase shell, so that all is loaded again"
        yield Check(Grade.FAIL, "tables", found, fix)
    elif there == [tables.data]:
        found = f"{tables.reports} is gone, though {tables.data} is there: load will ask for everything again"
        yield Check(Grade.WARN, "tables", found, "nothing to do, if that is meant; storing twice changes nothing")
    elif not there:
        yield Check(Grade.OK, "tables", f"{' and '.join(tables.families)} are absent: load creates them")
    for name in there:
        missing = [family for family in tables.families[name] if family not in connector.families(name)]
        if missing:
            found = f"{name} lacks {', '.join(missing)}"
            yield Check(Grade.FAIL, "tables", found, "'schema --check' names the lines for hbase shell that add them")
        else:
            yield Check(Grade.OK, "tables", f"{name} has all its families ({len(tables.families[name])})")


def _other_runs(view: HBaseView) -> Check:
    try:
        if view.absent():
            return Check(Grade.OK, "other runs", "none, as there are no reports")
        loading: dict[str, list[str]] = {}
        for meeting, holder in view.holders():
            loading.setdefault(holder, []).append(str(meeting.meeting_key))
    finally:
        view.close()
    if not loading:
        return Check(Grade.OK, "other runs", "none loads now")
    found = "; ".join(f"{who} loads {', '.join(meetings)}" for who, meetings in loading.items())
    return Check(Grade.WARN, "other runs", found, "nothing to do: another load waits for these meetings")
