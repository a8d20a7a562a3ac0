"""The command line of ``python -m simulator``."""

import asyncio
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, time, timedelta
from math import inf
from pathlib import Path
from typing import ClassVar

import click

from f1hbase.cli.parameters import rates as rates_type
from f1hbase.errors import F1HBaseError
from f1hbase.model.rates import Rate
from f1hbase.serve.app import EMPTY_FORMS, Empty
from f1hbase.serve.run import open_files
from f1hbase.serve.run import serve as serve_app
from simulator import Plan
from simulator import simulate as simulate_season
from simulator.app import Credentials, create_app
from simulator.faults import DEFAULT_KINDS, Faults, FaultSettings, LockOut
from simulator.faults import KINDS as FAULT_KINDS
from simulator.history import FIRST, LAST, History, Scale
from simulator.history_of_season import RecordedHistory
from simulator.history_server import create_history, run_history
from simulator.live.faults import FEED_KINDS, HUB_KINDS, FeedFaults
from simulator.live.hub import HubSettings
from simulator.live.player import Timing
from simulator.live.run import LiveSettings, ScriptError, play
from simulator.people import MOST_DRIVERS
from simulator.season import KINDS, WEEKEND

_FOLDER = click.Path(path_type=Path, file_okay=False)


class LockOutType(click.ParamType[LockOut]):
    """A lock-out such as ``20-60`` (requests) or ``20s-60s`` (seconds)."""

    name = "lock-out"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> LockOut:
        """Return the lock-out that the text names."""
        if isinstance(value, LockOut):
            return value
        try:
            return LockOut.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class FailType(click.ParamType[tuple[str, int]]):
    """An endpoint and its status, such as ``laps=503``."""

    name = "fail"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """Return the endpoint and the status that the text names."""
        endpoint, equals, status = str(value).partition("=")
        if equals and not status.isdigit():
            self.fail(f"{status!r} is no status", param, ctx)
        return endpoint, int(status) if equals else 500


class _FaultOption(click.Option):
    """An option that the help lists apart."""


class _ServeCommand(click.Command):
    """A command whose help lists the options for faults, and the kinds of faults, apart."""

    faults_heading = "Failures on purpose (POST /_faults changes them, GET /_faults counts them)"
    kinds: ClassVar[Mapping[str, Mapping[str, str]]] = {"Kinds of faults": FAULT_KINDS}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the usual options, those for faults, and the kinds of faults, each under a heading."""
        options: list[tuple[str, str]] = []
        faults: list[tuple[str, str]] = []
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                (faults if isinstance(param, _FaultOption) else options).append(record)
        for heading, rows in (
            ("Options", options),
            (self.faults_heading, faults),
            *((heading, list(kinds.items())) for heading, kinds in self.kinds.items()),
        ):
            with formatter.section(heading):
                formatter.write_dl(rows)


class _LiveCommand(_ServeCommand):
    faults_heading = 'Failures on purpose (POST /_live with {"cut": "all"} ends connections, GET /_live lists them)'
    kinds: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "Kinds of --fault": FEED_KINDS,
        "Kinds of --hub": HUB_KINDS,
    }


class ShareType(click.ParamType[tuple[str, float]]):
    """A kind of fault and its share, such as ``drop=0.001``."""

    name = "share"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """Return the kind and the share that the text names."""
        if isinstance(value, tuple):
            return value
        kind, _, share = str(value).partition("=")
        try:
            FeedFaults({kind: float(share)})
        except ValueError as error:
            self.fail(f"{value!r} is no KIND=SHARE such as drop=0.001: {error}", param, ctx)
        return kind, float(share)


class MomentType(click.ParamType[float]):
    """A time of today (UTC) such as ``14:30`` or ``14:30:05``, a whole one, or ``+10`` seconds from now."""

    name = "moment"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the moment that the text names, in seconds of ``time.time()``."""
        if isinstance(value, float):
            return value
        text, now = str(value), datetime.now(UTC)
        try:
            if text.startswith("+"):
                return (now + timedelta(seconds=float(text))).timestamp()
            if "T" in text or "-" in text:
                moment = datetime.fromisoformat(text)
                return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
            return datetime.combine(now.date(), time.fromisoformat(text), UTC).timestamp()
        except (ValueError, OverflowError):
            self.fail(f"{text!r} is neither +SECONDS, nor HH:MM[:SS], nor YYYY-MM-DDTHH:MM (UTC)", param, ctx)


class AddressType(click.ParamType[tuple[str, int]]):
    """A host and port such as ``localhost:1883``."""

    name = "address"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """Return the host and the port that the text names."""
        if isinstance(value, tuple):
            return value
        host, _, port = str(value).rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            self.fail(f"{value!r} is no HOST:PORT such as localhost:1883", param, ctx)
        return host.strip("[]"), int(port)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Simulate Formula 1 data, and serve data as the OpenF1 API would: no network needed.

    \b
    A race weekend in miniature, and the API over it:
      python -m simulator make out/demo --seed 1 --minutes 3
      python -m simulator serve out/demo --port 8000
      curl 'http://127.0.0.1:8000/v1/drivers?session_key=latest'
      python hbase_populate_openF1.py --api-url http://127.0.0.1:8000/v1

    \b
    A session as F1 sends it while it is on, twenty times as fast:
      python -m simulator live out/demo --session-key 70001 --speed 20 --port 8001
    """


@main.command(cls=_ServeCommand)
@click.argument("folders", nargs=-1, required=True, metavar="DIR...", type=_FOLDER)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen at; the default is this machine only.",
)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--port-file", type=click.Path(path_type=Path, dir_okay=False), help="Writes the port there when ready.")
@click.option(
    "--empty",
    type=click.Choice(list(EMPTY_FORMS)),
    default="list",
    show_default=True,
    help="An answer without a record: 200 [] (in CSV a 500), as OpenF1's own software, or 404, as its host.",
)
@click.option("--max-rows", type=click.IntRange(1), metavar="N", help="Answers with more records are a 422.")
@click.option("--max-bytes", type=click.IntRange(1), metavar="N", help="Answers with a larger body are a 422.")
@click.option(
    "--rate",
    "rates",
    type=rates_type(),
    default="none",
    show_default=True,
    metavar="RATES",
    help="More requests, of all clients together, are a 429. OpenF1's own: 3/s,30/m",
)
@click.option(
    "--self-hosted",
    is_flag=True,
    help="From 30 requests in 10 s on a 429 without Retry-After, as OpenF1's own software without its host.",
)
@click.option("--retry-after", is_flag=True, help="A 429 says when to come again.")
@click.option("--username", help="With --password: POST /token gives a Bearer token for them.")
@click.option("--password", envvar="F1HBASE_REPLAY_PASSWORD", show_envvar=True)
@click.option(
    "--token-rate",
    "token_rates",
    type=rates_type(),
    metavar="RATES",
    help="Rates for requests with a token. OpenF1's own: 6/s,60/m",
)
@click.option(
    "--shuffle-seed",
    type=int,
    metavar="N",
    help="Shuffles each answer, the same way for the same N and question.",
)
@click.option(
    "--faults",
    "share",
    cls=_FaultOption,
    type=click.FloatRange(0, 1),
    default=0.0,
    metavar="SHARE",
    help="This share of the requests under /v1, such as 0.3, meets one of the kinds of faults below.",
)
@click.option(
    "--fault-seed",
    "seed",
    cls=_FaultOption,
    default=1,
    show_default=True,
    metavar="N",
    help="The same seed deals the same faults to the same queries, in whatever order they arrive.",
)
@click.option(
    "--fault-kinds",
    "kinds",
    cls=_FaultOption,
    default=",".join(DEFAULT_KINDS),
    metavar="KINDS",
    help="Such as 504,cut; named twice comes twice as often.  [default: all but foreign]",
)
@click.option(
    "--faults-in-a-row",
    "in_a_row",
    cls=_FaultOption,
    type=click.IntRange(0),
    default=2,
    show_default=True,
    metavar="K",
    help="One query has never more faults one after the other.",
)
@click.option(
    "--fault-retry-after",
    cls=_FaultOption,
    type=click.IntRange(0),
    default=1,
    show_default=True,
    metavar="SECONDS",
    help="What the Retry-After of a fault asks for.",
)
@click.option(
    "--fault-silence",
    "silence",
    cls=_FaultOption,
    type=click.FloatRange(0),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Then a silent connection is closed.",
)
@click.option(
    "--fail",
    cls=_FaultOption,
    type=FailType(),
    multiple=True,
    metavar="ENDPOINT[=STATUS]",
    help="Every answer of the endpoint is this error (500); repeatable. 404 is no error: it means no records.",
)
@click.option(
    "--lock-out",
    cls=_FaultOption,
    type=LockOutType(),
    metavar="FROM-TO",
    help="A live session: 401 without a token, from one request under /v1 to another by number (20-60), "
    "or in seconds since the start (20s-60s).",
)
@click.option(
    "--slow-rows",
    cls=_FaultOption,
    type=click.IntRange(1),
    metavar="N",
    help="A query for more records is a 500, as those that take OpenF1 more than 5 s.",
)
@click.option(
    "--empty-csv-status",
    cls=_FaultOption,
    type=click.Choice(["404", "500"]),
    help="What csv=true without a record is answered with.  [default: as --empty says]",
)
def serve(
    folders: tuple[Path, ...],
    host: str,
    port: int,
    port_file: Path | None,
    empty: str,
    max_rows: int | None,
    max_bytes: int | None,
    rates: tuple[Rate, ...],
    self_hosted: bool,
    retry_after: bool,
    username: str | None,
    password: str | None,
    token_rates: tuple[Rate, ...] | None,
    shuffle_seed: int | None,
    share: float,
    seed: int,
    kinds: str,
    in_a_row: int,
    fault_retry_after: int,
    silence: float,
    fail: tuple[tuple[str, int], ...],
    lock_out: LockOut | None,
    slow_rows: int | None,
    empty_csv_status: str | None,
) -> None:
    """Answer /v1/<endpoint> from the files <endpoint>.jsonl[.gz] in the folders and below.

    Several folders are one API. Prints "serving http://HOST:PORT/v1" when ready, and serves until SIGTERM or
    Ctrl-C. GET /_log lists the requests so far, and the fault that each one met.

    \b
    Everything below a folder, at a free port:
      python -m simulator serve out/demo --port 0
    As slow and as strict as OpenF1 itself:
      python -m simulator serve out/demo --rate 3/s,30/m --retry-after --max-rows 50000
    As unreliable as a bad day:
      python -m simulator serve out/demo --faults 0.3 --fault-seed 1 --fault-silence 90
    What it answers:
      curl 'http://127.0.0.1:8000/v1/laps?session_key=latest&driver_number=1&lap_duration<95'
      curl 'http://127.0.0.1:8000/v1/weather?session_key=latest&csv=true'
    """
    if (username is None) != (password is None):
        raise click.UsageError("--username and --password go together")
    credentials = None if username is None or password is None else Credentials(username, password)
    try:
        settings = FaultSettings(
            share=share,
            seed=seed,
            kinds=tuple(kind.strip() for kind in kinds.split(",")),
            in_a_row=in_a_row,
            retry_after=fault_retry_after,
            silence=silence,
            fail=dict(fail),
            lock_out=lock_out,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    form = EMPTY_FORMS[empty]
    try:
        store = open_files(folders, sys.stderr)
        app = create_app(
            store,
            max_rows=max_rows,
            max_bytes=max_bytes,
            slow_rows=slow_rows,
            empty=form if empty_csv_status is None else Empty(form.json, int(empty_csv_status)),
            rates=rates,
            self_hosted=self_hosted,
            retry_after=retry_after,
            credentials=credentials,
            token_rates=token_rates,
            shuffle_seed=shuffle_seed,
            middlewares=[Faults(settings).middleware],
        )
        serve_app(app, host, port, click.echo, port_file)
    except F1HBaseError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)


@main.command("serve-results")
@click.option("--seed", default=1, show_default=True, metavar="N", help="The same seed serves the same seasons.")
@click.option("--first", default=FIRST, show_default=True, type=click.IntRange(FIRST, LAST), metavar="Y")
@click.option("--last", default=LAST, show_default=True, type=click.IntRange(FIRST, LAST), metavar="Y")
@click.option("--cars", default=20, show_default=True, type=click.IntRange(4, 24), metavar="N")
@click.option("--laps", default=58, show_default=True, type=click.IntRange(2, 100), metavar="N", help="Of each race.")
@click.option("--rounds", type=click.IntRange(1, 30), metavar="N", help="Of each season.  [default: as there were]")
@click.option("--held", type=click.IntRange(0, 30), metavar="N", help="Races of the last season with results.")
@click.option(
    "--of",
    "folder",
    type=_FOLDER,
    help="The results of the race weekends that `make` wrote into a folder, instead of seasons of their own.",
)
@click.option(
    "--rate",
    "rates",
    type=rates_type(),
    default="none",
    show_default=True,
    metavar="RATES",
    help="More requests, of all clients together, are a 429. Jolpica's own: 4/s,500/h",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", default=8001, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
def serve_results(
    seed: int,
    first: int,
    last: int,
    cars: int,
    laps: int,
    rounds: int | None,
    held: int | None,
    folder: Path | None,
    rates: tuple[Rate, ...],
    host: str,
    port: int,
) -> None:
    """Serve seasons that never were as Jolpica does (Ergast's form), in pages of 100 entries at the most.

    Prints "serving http://HOST:PORT/ergast/f1" when ready, and serves until SIGTERM or Ctrl-C.

    \b
    All seasons, and one of them loaded:
      python -m simulator serve-results --port 8001
      python hbase_populate_openF1.py --from jolpica --jolpica-url http://127.0.0.1:8001/ergast/f1 --year 1991
    As strict as Jolpica:
      python -m simulator serve-results --rate 4/s,500/h
    Both sides of a season, to be compared by verify --against jolpica:
      python -m simulator make weekends --meetings 2
      python -m simulator serve-results --of weekends
    """
    if first > last:
        raise click.UsageError("--first comes after --last")
    if folder is None:
        history = History(seed, Scale(cars, laps, rounds, first, last), held)
    else:
        try:
            history = RecordedHistory(folder)
        except FileNotFoundError as error:
            raise click.UsageError(f"--of: {error}") from error
    app = create_history(history, rates)
    with suppress(KeyboardInterrupt):
        asyncio.run(run_history(app, host, port, lambda url: click.echo(f"serving {url}")))


class KindsType(click.ParamType[tuple[str, ...]]):
    """Kinds of sessions such as ``practice,qualifying,race``."""

    name = "kinds"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the kinds that the text names."""
        if isinstance(value, tuple):
            return value
        kinds = tuple(part.strip() for part in str(value).split(","))
        for kind in kinds:
            if kind not in KINDS:
                self.fail(f"{kind!r} is not one of {', '.join(KINDS)}", param, ctx)
        return kinds


@main.command("make")
@click.argument("out", metavar="OUTDIR", type=_FOLDER)
@click.option("--seed", default=1, show_default=True, metavar="N", help="The same seed writes the same bytes.")
@click.option("--year", default=2025, show_default=True, type=click.IntRange(2018, 2100))
@click.option(
    "--meetings",
    default=1,
    show_default=True,
    type=click.IntRange(1, 99),
    metavar="N",
    help="Of 6 and more, one is cancelled.",
)
@click.option(
    "--sessions",
    type=KindsType(),
    default=",".join(WEEKEND),
    show_default=True,
    metavar="KINDS",
    help=f"Of each meeting, in order: {', '.join(KINDS)}.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(1, 600),
    metavar="M",
    help="Length of each session; laps get shorter with it.  [default: as in reality]",
)
@click.option("--drivers", default=MOST_DRIVERS, show_default=True, type=click.IntRange(1, MOST_DRIVERS), metavar="N")
@click.option(
    "--safety-car",
    is_flag=True,
    help="Races have a car that no list names: number 241, in location alone, for some minutes.",
)
@click.option(
    "--start-date",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="YYYY-MM-DD",
    help="First day of the first meeting; its year counts.  [default: a Friday in March]",
)
def simulate(
    out: Path,
    seed: int,
    year: int,
    meetings: int,
    sessions: tuple[str, ...],
    minutes: float | None,
    drivers: int,
    safety_car: bool,
    start_date: datetime | None,
) -> None:
    """Write the records of races that never happened, as OpenF1 would have them.

    OUTDIR gets a folder a meeting, in it one a session, in it <endpoint>.jsonl.gz. People, teams and circuits are
    invented; cars move on a closed track, and all else follows from their motion.

    \b
    A weekend in miniature, for a demo or a test (about 180,000 records, some seconds):
      python -m simulator make out/demo --minutes 3
    A race as long as a real one, of two cars:
      python -m simulator make out/duel --sessions race --drivers 2
    A season (about 85 million records in 0.9 GB, half an hour):
      python -m simulator make out/season --year 2024 --meetings 24
    """
    plan = Plan(
        seed=seed,
        year=year if start_date is None else start_date.year,
        meetings=meetings,
        sessions=sessions,
        minutes=minutes,
        drivers=drivers,
        safety_car=safety_car,
        first_day=None if start_date is None else start_date.date(),
    )
    total = 0
    try:
        for one in simulate_season(out, plan):
            total += one.records
            click.echo(f"{one.meeting_key} {one.session_key} {one.name}: {one.records:,} records")
    except OSError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{total + meetings:,} records in {out}, the meetings' own among them")


@main.command(cls=_LiveCommand)
@click.argument("place", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option("--session-key", type=int, metavar="K", help="Which session, where there are several.")
@click.option(
    "--speed",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0),
    metavar="N",
    help="So many seconds of the session pass in one; 0: as fast as who listens takes it.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", default=8001, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--port-file", type=click.Path(path_type=Path, dir_okay=False), help="Writes the port there when ready.")
@click.option(
    "--start-at",
    type=MomentType(),
    metavar="WHEN",
    help="+SECONDS, HH:MM[:SS] or YYYY-MM-DDTHH:MM (UTC).  [default: when --subscribers have subscribed]",
)
@click.option(
    "--subscribers",
    default=1,
    show_default=True,
    type=click.IntRange(0),
    metavar="N",
    help="Begins with so many subscribers; 0: at once.",
)
@click.option(
    "--hold",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    metavar="N",
    help="Stands still while there are fewer subscribers; the real hub never waits.",
)
@click.option(
    "--skip",
    default=0.0,
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Begins so late in the session; what was before is in the snapshot alone.",
)
@click.option("--until", default=inf, type=click.FloatRange(0), metavar="SECONDS", help="Ends so late in the session.")
@click.option(
    "--end-after",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Ends so long after the last message.  [default: on SIGTERM or Ctrl-C]",
)
@click.option(
    "--archive-at-once",
    is_flag=True,
    help="The session's files are in the archive from the beginning, and not only when it is over.",
)
@click.option(
    "--sent-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Writes a line of JSON for each message: number, topic, its time, and when it was played.",
)
@click.option(
    "--mqtt",
    type=AddressType(),
    metavar="HOST:PORT",
    help="Publishes the records to this broker, as OpenF1 does; the player does not wait for its subscribers.",
)
@click.option("--mqtt-password", envvar="F1HBASE_REPLAY_MQTT_PASSWORD", show_envvar=True, help="What the broker wants.")
@click.option("--token", envvar="F1HBASE_REPLAY_TOKEN", show_envvar=True, help="The only good token.  [default: any]")
@click.option(
    "--token-seconds",
    cls=_FaultOption,
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Then the token is good no more: its connections are closed, new ones are a 401.",
)
@click.option(
    "--fault",
    "shares",
    cls=_FaultOption,
    type=ShareType(),
    multiple=True,
    metavar="KIND=SHARE",
    help="This share of the messages meets the fault, such as drop=0.0005; repeatable.",
)
@click.option(
    "--fault-seed",
    cls=_FaultOption,
    default=1,
    show_default=True,
    metavar="N",
    help="The same seed deals the same faults to the same messages of the connection of the same number.",
)
@click.option(
    "--late",
    cls=_FaultOption,
    default=5.0,
    show_default=True,
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="How much later, in the session, a late message comes.",
)
@click.option(
    "--gap",
    cls=_FaultOption,
    default=0.0,
    show_default=True,
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="For so long, in the session, nobody can subscribe after a connection was ended.",
)
@click.option(
    "--hub",
    "refuses",
    cls=_FaultOption,
    type=click.Choice(list(HUB_KINDS)),
    help="What the hub does instead of its work.",
)
@click.option(
    "--hub-times",
    cls=_FaultOption,
    type=click.IntRange(0),
    metavar="N",
    help="How often it does that, before it works.  [default: always]",
)
def live(
    place: Path,
    session_key: int | None,
    speed: float,
    host: str,
    port: int,
    port_file: Path | None,
    start_at: float | None,
    subscribers: int,
    hold: int,
    skip: float,
    until: float,
    end_after: float | None,
    archive_at_once: bool,
    sent_file: Path | None,
    mqtt: tuple[str, int] | None,
    mqtt_password: str | None,
    token: str | None,
    token_seconds: float | None,
    shares: tuple[tuple[str, float], ...],
    fault_seed: int,
    late: float,
    gap: float,
    refuses: str | None,
    hub_times: int | None,
) -> None:
    """Play a session as F1 sends it while it is on: SignalR hub and archive at one port.

    FOLDER is what `make` wrote, an archive of live timing (its root, or one session of it), or a recording. Prints a
    line with both addresses when ready, and plays once, from the first subscriber on unless told otherwise. Topics that
    F1 gives to subscribers alone (CarData.z, Position.z, DriverRaceInfo, PitStop, ChampionshipPrediction) are for who
    sends a Bearer token.

    \b
    A simulated race, twenty times as fast:
      python -m simulator make out/race --sessions race --minutes 10
      python -m simulator live out/race --speed 20 --port 8001
    A recording, as fast as who listens takes it:
      python -m simulator live recording.txt.gz --speed 0 --hold 1
    OpenF1's MQTT feed of it, to a broker:
      python -m simulator live out/race --speed 20 --subscribers 0 --mqtt localhost:1883
    A bad day: connections that end, in the middle of a frame too, and what comes twice, late or not in order:
      python -m simulator live out/race --fault drop=0.0005 --fault cut=0.0005 --fault duplicate=0.01 \\
        --fault late=0.01 --fault reorder=0.05 --gap 20 --fault-seed 7
    """
    try:
        settings = LiveSettings(
            place=place,
            session_key=session_key,
            timing=Timing(speed, start_at, subscribers, hold, skip, until),
            hub=HubSettings(
                token=token,
                token_seconds=token_seconds,
                faults=FeedFaults(dict(shares), fault_seed, late, gap),
                refuses=refuses,
                refusals=hub_times,
                archive_at_once=archive_at_once,
            ),
            host=host,
            port=port,
            end_after=end_after,
            port_file=port_file,
            sent_file=sent_file,
            mqtt=mqtt,
            mqtt_password=mqtt_password,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    try:
        play(settings, click.echo)
    except F1HBaseError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except (ScriptError, OSError) as error:
        raise click.ClickException(str(error)) from None
