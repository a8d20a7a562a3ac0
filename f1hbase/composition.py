"""The composition root: the only place that knows which kinds of sources and destinations there are.

A new kind is one module with a function `recipe(config, location)`, and one line here.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from f1hbase.config import DEFAULT_METRICS_PORT, Config, flag
from f1hbase.destinations.base import DestinationRecipe, KeepsObjects
from f1hbase.destinations.live import LiveDestinationRecipe
from f1hbase.errors import ConfigError, F1HBaseError
from f1hbase.frames.needs import need
from f1hbase.metrics.base import Exporter
from f1hbase.metrics.opentsdb import ingester_points_of, opentsdb_of
from f1hbase.model.plans import Selection
from f1hbase.model.samples import Record
from f1hbase.model.text import safe
from f1hbase.model.units import Scope
from f1hbase.operations.rollback.base import Rollback, Target
from f1hbase.operations.status.base import StateView, view_of
from f1hbase.pipeline.display import TaskDisplay, TaskLines
from f1hbase.pipeline.engine import Engine
from f1hbase.pipeline.live.choosing import live_folder
from f1hbase.pipeline.live.run import LiveParts, LiveRequest
from f1hbase.pipeline.load import STARTUP_PATIENCE_SECONDS, LoadRequest, load, run_async
from f1hbase.pipeline.parts import LoadOptions, Recipe
from f1hbase.sources.base import JoinsSessions, Reader, SourceRecipe
from f1hbase.sources.feeds import FeedRecipe
from f1hbase.values import split_hosts

if TYPE_CHECKING:
    from f1hbase.operations.export.files import ExportEngine
    from f1hbase.operations.ingest import Catalogue, FileStore, Ingester
    from f1hbase.operations.verify.base import Auditor
    from f1hbase.serve.pages import SharedStore
    from f1hbase.serve.store import RecordStore
    from f1hbase.sources.hbase import HBaseReader

_log = logging.getLogger(__name__)

_READ_PATIENCE_SECONDS = 10.0

SOURCES = {
    "hbase": "f1hbase.sources.hbase",
    "openf1": "f1hbase.sources.openf1.recipe",
    "livetiming": "f1hbase.sources.livetiming.recipe",
    "jolpica": "f1hbase.sources.jolpica.recipe",
    "fastf1": "f1hbase.sources.fastf1.recipe",
}
"""The module of each source by the name that `--from` gives it; imported when it is needed."""

DESTINATIONS = {
    "hbase": "f1hbase.destinations.hbase",
}
"""The module of each destination by the name that `--to` gives it."""


AUDITORS = {
    "hbase": "f1hbase.operations.verify.hbase",
}
"""The module of what `verify` looks at a destination with, by the same names; its function is `open_auditor`."""

ROLLBACKS = {
    "hbase": "f1hbase.operations.rollback.hbase",
}
"""The module that rolls back in each destination: one with a function `open_rollback(config, location, target)`."""

STATE_VIEWS = {
    "hbase": "f1hbase.state.hbase.brief",
}
"""The module that reads what each destination remembers faster than session by session."""

ENGINES = {
    "spark": "f1hbase.cluster.engine",
}
"""The module of each engine that loads in bulk, by the name that `--engine` gives it: one with a function
`open_engine(config, location, show)`. `local` is none: worker processes load it all."""

EXPORT_ENGINES = {
    "spark": "f1hbase.operations.export.spark",
}
"""The module of each engine that exports, by the same names, with a function `open_engine(config, location, show)`."""

ENGINE_AUDITORS = {
    "spark": "f1hbase.operations.verify.spark",
}
"""The module of what `verify` looks with by an engine, with a function `open_auditor(config, location, show)`."""

FEEDS = {
    "livetiming": "f1hbase.sources.livetiming.feed",
    "openf1": "f1hbase.sources.openf1.feed",
}
"""The module of each feed by the name that `live --from` gives it: one with a function `feed_recipe(config)`."""

LIVE_DESTINATIONS = {
    "hbase": "f1hbase.destinations.hbase_live",
}
"""The module that stores a feed's records in each destination: one with a function `live_recipe(config)`."""

IsArchived = Callable[[Config, Scope], Coroutine[Any, Any, bool]]
"""A feed's module may have a function `is_archived`: whether what was recorded can be loaded once more by now."""

_ARCHIVED_WITHIN_SECONDS = 7_200.0
_LOOK_AGAIN_SECONDS = 60.0

_RAW_LIVE_KEEPER = "f1hbase.pipeline.live.raw_lines"

READERS = {
    "hbase": "f1hbase.sources.hbase",
}
"""The module that reads back what is stored in each place: one with a function `reader(config, location, patience)`."""

SERVED = {
    "hbase": "f1hbase.serve.hbase_store",
}
"""The module that serves what is stored in each place: `record_store(config, location, most_seconds)`."""

PAGES_PATIENCE_SECONDS = 3.0
"""How long a page waits for a store that is away before it says so, and tries again."""

_FILE_RECORDS = "f1hbase.destinations.hbase"
_RECORDING_SOURCE = "f1hbase.sources.recordings"
_ANY_URL_SOURCE = "f1hbase.sources.files"
_ANY_URL_DESTINATION = "f1hbase.destinations.files"
_ANY_URL_AUDITOR = "f1hbase.operations.verify.files"
_ANY_URL_ROLLBACK = "f1hbase.operations.rollback.files"
_ANY_URL_READER = "f1hbase.sources.files"
"""What is no registered name is a recording, by its first lines, or the path or URL of a landing zone."""


def load_recipe(config: Config) -> Recipe:
    """Return how the source and the destinations of a load are opened.

    Raises:
        F1HBaseError: If one of them cannot be; says why and what to do.
    """
    source = source_recipe(config)
    destinations = tuple(destination_recipe(config, name) for name in config.settings.to)
    if isinstance(source, JoinsSessions):
        source = source.joined(_known_sessions(config))
    return Recipe(source, destinations)


def _known_sessions(config: Config) -> Sequence[Record]:
    """Return the sessions that are loaded in HBase already, where that is loaded into; none that cannot be read."""
    if "hbase" not in config.settings.to:
        return ()
    read: Callable[[Config, str, float], HBaseReader] = import_module(READERS["hbase"]).reader
    reader = read(config, "hbase", _READ_PATIENCE_SECONDS)
    try:
        return reader.sessions()
    except F1HBaseError as error:
        _log.info("races get no keys of OpenF1, as no sessions of it can be read: %s", error)
        return ()
    finally:
        reader.close()


def source_recipe(config: Config, name: str | None = None) -> SourceRecipe:
    """Return how a source is opened, by its name or URL; by default the one of the settings."""
    location = config.settings.source if name is None else name
    build: Callable[[Config, str], SourceRecipe] = _source_module(location).recipe
    return build(config, location)


def classification_source(config: Config, name: str) -> SourceRecipe | None:
    """Return how a source of classifications is opened, by its name, for `verify --against`; None where it is another.

    It is one whose races are those of OpenF1 under other keys, so that they are compared by what they mean.

    Raises:
        ConfigError: If endpoints were asked for that no classification is in.
    """
    if name not in SOURCES:
        return None
    settings = config.settings
    recipe = source_recipe(replace(config, settings=replace(settings, endpoint=())), name)
    if not isinstance(recipe, JoinsSessions):
        return None
    others = [endpoint for endpoint in settings.endpoint if endpoint != "session_result"]
    if others:
        raise ConfigError(f"--endpoint {others[0]}: --against {name} compares session_result alone; leave it out.")
    return recipe


def _source_module(location: str) -> ModuleType:
    if location in SOURCES:
        return import_module(SOURCES[location])
    recordings = import_module(_RECORDING_SOURCE)
    return recordings if recordings.is_recording(location) else import_module(_ANY_URL_SOURCE)


def open_reader(config: Config, name: str | None = None, patience: float | None = None) -> Reader:
    """Open what reads a place back.

    Args:
        config: The settings.
        name: The place, by its name or URL; by default the source of the settings.
        patience: For how long it may be away, in seconds; by default as the settings say.

    Raises:
        F1HBaseError: If it cannot be opened, or nothing can be read back from there; says why and what to do.
    """
    location = config.settings.source if name is None else name
    read: Callable[[Config, str, float], Reader] = _module(READERS, _ANY_URL_READER, location, "reading back").reader
    return read(config, location, config.settings.patience.total_seconds() if patience is None else patience)


def open_record_store(
    config: Config, places: Sequence[str], most_seconds: float, read_files: Callable[[list[Path]], RecordStore]
) -> RecordStore:
    """Open what answers are made from, by names or URLs.

    Args:
        config: The settings.
        places: One place; or several folders of JSON lines, which are one API.
        most_seconds: How long a query may take until its first records are there.
        read_files: Reads folders of JSON lines into memory.

    Raises:
        F1HBaseError: If it cannot be opened; says why and what to do.
    """
    from f1hbase.serve import zone_store
    from f1hbase.sources.files import are_json_lines

    if len(places) == 1 and places[0] in SERVED:
        build: Callable[[Config, str, float], RecordStore] = import_module(SERVED[places[0]]).record_store
        return build(config, places[0], most_seconds)
    if all(are_json_lines(place) for place in places):
        return read_files([Path(place) for place in places])
    if len(places) > 1:
        raise ConfigError("several --from are one API only where each is a folder of JSON lines; name one of them.")
    settings = replace(config.settings, patience=timedelta(seconds=zone_store.PATIENCE_SECONDS))
    served = replace(config, settings=settings)
    return zone_store.record_store(lambda: open_reader(served, places[0]), most_seconds)


def shared_store(config: Config, places: Sequence[str], served: RecordStore) -> SharedStore:
    """Return what the web pages are about: what is served.

    It is opened when a page asks for something, and given up after `PAGES_PATIENCE_SECONDS` while it is away.

    Args:
        config: The settings.
        places: The places by their names or URLs.
        served: What the API's answers are made from, by `open_record_store`.

    Raises:
        MissingPackageError: If pyarrow or numpy is not installed; says how they are.
    """
    for package in ("pyarrow", "numpy"):
        need(package, "showing web pages")
    from f1hbase.frames.store import Store
    from f1hbase.serve.file_store import FileStore
    from f1hbase.serve.pages import SharedStore
    from f1hbase.serve.pages.memory import MemoryReader

    if isinstance(served, FileStore):
        return SharedStore(lambda: Store(MemoryReader(served, ", ".join(places))))
    patience = timedelta(seconds=PAGES_PATIENCE_SECONDS)
    impatient = replace(config, settings=replace(config.settings, patience=patience))
    return SharedStore(lambda: Store(open_reader(impatient, places[0])), lambda: state_view(impatient, places[0]))


def _module(modules: Mapping[str, str], otherwise: str, location: str, action: str) -> ModuleType:
    """Return the module that does something in a place.

    Raises:
        ConfigError: If the place has a name of its own, and no module for that.
    """
    if location not in modules and location in (*SOURCES, *DESTINATIONS):
        offered = ", ".join(modules)
        raise ConfigError(f"{action} is not offered for '{location}', only for {offered} and for landing zones.")
    return import_module(modules.get(location, otherwise))


def destination_recipe(config: Config, name: str | None = None) -> DestinationRecipe:
    """Return how a destination is opened, by its name or URL; by default the first one of the settings."""
    location = config.settings.to[0] if name is None else name
    module = import_module(DESTINATIONS.get(location, _ANY_URL_DESTINATION))
    build: Callable[[Config, str], DestinationRecipe] = module.recipe
    return build(config, location)


def object_store(config: Config, name: str) -> KeepsObjects | None:
    """Return how a destination that is a store of objects is opened, by its path or URL; None for any other.

    Raises:
        F1HBaseError: If it cannot be; nothing is asked of it yet.
    """
    if name in DESTINATIONS:
        return None
    build: Callable[[Config, str], KeepsObjects] = import_module(_ANY_URL_DESTINATION).recipe
    return build(config, name)


def state_view(config: Config, name: str | None = None) -> StateView:
    """Return what a destination remembers, for `status` and `plan`; by default the first one of the settings.

    Raises:
        F1HBaseError: If it cannot be reached; says why and what to do.
    """
    location = config.settings.to[0] if name is None else name
    if location in DESTINATIONS:
        build: Callable[[Config, str], StateView] = _module(STATE_VIEWS, "", location, "status").view
        return build(config, location)
    return view_of(destination_recipe(config, location), open_reader(config, location, STARTUP_PATIENCE_SECONDS))


def open_auditor(config: Config, name: str | None = None, show: Callable[[], TaskDisplay] = TaskLines) -> Auditor:
    """Open what `verify` looks at a destination with, by its name or URL; by default the first one of the settings.

    Args:
        config: The settings.
        name: The destination.
        show: Makes the display of an engine's tasks.

    Raises:
        F1HBaseError: If it cannot be opened; says why and what to do.
    """
    location = config.settings.to[0] if name is None else name
    if config.settings.engine in ENGINE_AUDITORS:
        look: Callable[..., Auditor] = import_module(ENGINE_AUDITORS[config.settings.engine]).open_auditor
        return look(config, location, show)
    _refuse_without_engine(config)
    module = _module(AUDITORS, _ANY_URL_AUDITOR, location, "verify")
    build: Callable[[Config, str], Auditor] = module.open_auditor
    return build(config, location)


def can_load_in_bulk(config: Config) -> bool:
    """Return whether an engine could load in bulk what the settings name: from a landing zone, into HBase alone."""
    source = config.settings.source
    if config.settings.to != ("hbase",) or source in SOURCES:
        return False
    is_zone: Callable[[str], bool] = import_module(_ANY_URL_SOURCE).is_zone
    return is_zone(source)


def load_engine(config: Config, show: Callable[[], TaskDisplay]) -> Engine | None:
    """Return what loads in bulk first what it can; None where worker processes load it all.

    Args:
        config: The settings.
        show: Makes the display of its tasks.

    Raises:
        ConfigError: If it cannot load from this source or into these destinations.
    """
    settings = config.settings
    if settings.engine not in ENGINES:
        _refuse_without_engine(config)
        return None
    # What is elsewhere and is no landing zone, the engine refuses itself.
    is_local_recording: Callable[[str], bool] = import_module(_RECORDING_SOURCE).is_local_recording
    if settings.source in SOURCES or is_local_recording(settings.source):
        raise ConfigError(
            f"--engine {settings.engine} loads from a landing zone, not from '{settings.source}': fill one with load "
            f"--from {settings.source} --to FOLDER and load --from FOLDER, or use --engine local."
        )
    if settings.to != ("hbase",):
        raise ConfigError(f"--engine {settings.engine} loads into hbase alone: leave out --to, or use --engine local.")
    build: Callable[..., Engine] = import_module(ENGINES[settings.engine]).open_engine
    return build(config, settings.source, show)


def export_engine(config: Config, location: str, show: Callable[[], TaskDisplay]) -> ExportEngine | None:
    """Return what reads a place by itself and writes files of it; None where this process does.

    Args:
        config: The settings.
        location: The place.
        show: Makes the display of its tasks.

    Raises:
        ConfigError: If it cannot export from there.
    """
    if config.settings.engine not in EXPORT_ENGINES:
        _refuse_without_engine(config)
        return None
    build: Callable[..., ExportEngine] = import_module(EXPORT_ENGINES[config.settings.engine]).open_engine
    return build(config, location, show)


def _refuse_without_engine(config: Config) -> None:
    """Refuse what only an engine takes.

    Raises:
        ConfigError: If something of that kind is given; says what to add.
    """
    for name in ("spark_master", "spark_conf", "spark_staging", "snapshot"):
        if config.origins.get(name) == "given":
            raise ConfigError(f"{flag(name)} goes with --engine spark; add it, or leave out {flag(name)}.")


def load_request(config: Config) -> LoadRequest:
    """Return what the settings say that a load is to do."""
    settings = config.settings
    options = LoadOptions(settings.processes, settings.refresh, settings.patience.total_seconds())
    return LoadRequest(selection_of(config), options, settings.shown())


def exporters(config: Config, environment: Mapping[str, str] | None = None) -> list[Exporter]:
    """Return who is shown what a load measures.

    Args:
        config: The settings.
        environment: Where OpenTSDB's variables are looked for; by default that of the process.

    Raises:
        MissingPackageError: If a package that this needs is not installed; says how it is.
        ConfigError: If OPENTSDB_HOSTNAME names no server.
    """
    settings = config.settings
    found: list[Exporter] = []
    if settings.metrics or settings.metrics_file is not None:
        need("prometheus_client", flag("metrics" if settings.metrics else "metrics_file"))
        from f1hbase.metrics.prometheus import PrometheusFile, PrometheusServer

        for host, port in split_hosts(settings.metrics) if settings.metrics else ():
            found.append(PrometheusServer(host, port or DEFAULT_METRICS_PORT))
        if settings.metrics_file is not None:
            found.append(PrometheusFile(settings.metrics_file))
    opentsdb = opentsdb_of(os.environ if environment is None else environment)
    return found if opentsdb is None else [*found, opentsdb]


def open_ingester(
    config: Config, environment: Mapping[str, str] | None = None, *, on_command_line: bool = False
) -> Ingester:
    """Open what stores files of any kind once, as the settings and the variables of ingester libraries say.

    Args:
        config: The settings.
        environment: Where FILESTORE_TYPE, FILESYSTEM_STORAGE_ROOT_DIR, REQUIRED_HEADERS, API_ROOT and AUTH_TOKEN are
            looked for, and OpenTSDB's; by default that of the process.
        on_command_line: Whether metrics are sent at once, as the process may end any time.

    Raises:
        F1HBaseError: If it cannot be; says why and what to do.
    """
    from f1hbase.operations.ingest import Ingester
    from f1hbase.operations.ingest.catalogues import HBaseCatalogue, ZoneCatalogue, archive_of
    from f1hbase.operations.ingest.stores import NoFiles, ObjectFiles
    from f1hbase.stores.files.objects import Objects
    from f1hbase.stores.files.urls import parse_location

    environment = os.environ if environment is None else environment
    settings = config.settings
    place = _file_place(config, environment)
    objects = None if place is None else Objects(parse_location(place), settings.patience.total_seconds())
    store: FileStore = NoFiles() if objects is None else ObjectFiles(objects)
    archive = archive_of(environment) if settings.catalogue in ("auto", "archive") else None
    catalogue: Catalogue
    if archive is not None:
        catalogue = archive
    elif settings.catalogue == "archive":
        raise ConfigError("--catalogue archive: set API_ROOT to its address, and AUTH_TOKEN if it asks for one.")
    elif settings.catalogue == "hbase":
        catalogue = HBaseCatalogue(import_module(_FILE_RECORDS).open_file_records(config))
    elif objects is not None:
        catalogue = ZoneCatalogue(objects)
    else:
        raise ConfigError("FILESTORE_TYPE=dummy stores nothing: say where records go: --catalogue hbase, or API_ROOT.")
    from_environment = [name for name in environment.get("REQUIRED_HEADERS", "").replace(" ", "").split(",") if name]
    points = ingester_points_of(environment, synchronous=on_command_line)
    return Ingester(
        store,
        catalogue,
        settings.required_header or from_environment,
        None if points is None else points.send,
        environment.get("OBSERVATION_DATE_KEY", "") or "DATE-OBS",
    )


def _file_place(config: Config, environment: Mapping[str, str]) -> str | None:
    """Return the path or URL of the store of files; None for one that keeps nothing."""
    kind = environment.get("FILESTORE_TYPE", "")
    if config.origins.get("to") != "default":
        if len(config.settings.to) != 1 or config.settings.to[0] in DESTINATIONS:
            raise ConfigError(
                "--to: ingest stores files in one folder or bucket: --to ./zone or --to s3://bucket/prefix."
            )
        return config.settings.to[0]
    if kind == "dummy":
        return None
    if kind == "s3":
        return "s3:///"
    if kind == "local":
        root = environment.get("FILESYSTEM_STORAGE_ROOT_DIR", "")
        if not root:
            raise ConfigError(
                "FILESTORE_TYPE=local: set FILESYSTEM_STORAGE_ROOT_DIR to a folder, or say --to ./folder."
            )
        return root
    what = f"FILESTORE_TYPE={safe(kind, 40)} is none of dummy, local, s3" if kind else "ingest needs a place for files"
    raise ConfigError(f"{what}: say --to ./zone or --to s3://bucket/prefix.")


def selection_of(config: Config) -> Selection:
    """Return what the settings ask for; how many sessions the latest are, each source may say for itself."""
    selection, location = config.settings.selection, config.settings.source
    latest = getattr(_source_module(location), "LATEST_SESSIONS", None) if location in SOURCES else None
    if selection.mode == "latest" and selection.num_sessions is None and latest is not None:
        return replace(selection, num_sessions=latest)
    return selection


def live_parts(config: Config) -> LiveParts:
    """Return how the feed, the destination and the keepers of raw lines of a recording are opened.

    Raises:
        F1HBaseError: If one of them cannot be; says why and what to do.
    """
    settings = config.settings
    if settings.source not in FEEDS:
        raise ConfigError(f"--from {settings.source}: there is no such feed; live records from {', '.join(FEEDS)}.")
    stores = [name for name in settings.to if name in LIVE_DESTINATIONS]
    places = [name for name in settings.to if name not in LIVE_DESTINATIONS]
    if len(stores) != 1:
        raise ConfigError("live stores records in HBase: say --to hbase, and a --to with a URL for the raw lines.")
    if places and settings.layout != "raw-live":
        raise ConfigError(f"--to {places[0]}: live keeps raw lines in a landing zone: say --layout raw-live, too.")
    if settings.layout == "raw-live" and not places:
        raise ConfigError("--layout raw-live: say where the raw lines go: --to s3://bucket/prefix, or --to ./folder.")
    feed: Callable[[Config], FeedRecipe] = import_module(FEEDS[settings.source]).feed_recipe
    store: Callable[[Config], LiveDestinationRecipe] = import_module(LIVE_DESTINATIONS[stores[0]]).live_recipe
    feed_recipe = feed(config)
    keepers = [import_module(_RAW_LIVE_KEEPER).keeper_recipe(config, place) for place in places]
    return LiveParts(feed_recipe, store(config), keepers)


def live_request(config: Config) -> LiveRequest:
    """Return what the settings say that a recording is to do."""
    settings = config.settings
    again = None if settings.no_archive else partial(_load_again, config)
    return LiveRequest(
        settings.selection,
        settings.instance,
        settings.begin_before,
        settings.idle_timeout,
        live_folder(),
        again,
        settings.shown(),
    )


def _load_again(config: Config, scope: Scope) -> int:
    """Load a session that was recorded once more, from the source of the same name; return the exit code."""
    again = replace(
        config.settings, to=("hbase",), layout=None, mode=None, year=(), date=(), meeting_key=(),
        session_key=() if scope.session_key is None else (scope.session_key,), endpoint=(), driver=(),
        num_sessions=None, refresh=False, dry_run=False,
    )  # fmt: skip
    settings = replace(config, settings=again)
    _wait_for_archive(settings, scope)
    return load(load_request(settings), load_recipe(settings)).exit_code


def _wait_for_archive(config: Config, scope: Scope) -> None:
    """Wait until a source has what a load of a session asks for, where it can tell; two hours at the most."""
    is_archived: IsArchived | None = getattr(import_module(FEEDS[config.settings.source]), "is_archived", None)
    until = time.monotonic() + _ARCHIVED_WITHIN_SECONDS
    said = False
    while is_archived is not None and time.monotonic() < until and not run_async(is_archived(config, scope)):
        if not said:
            said = True
            _log.info("the archive does not have %s yet: looking again each minute", scope.name)
        time.sleep(_LOOK_AGAIN_SECONDS)


def open_rollback(config: Config, target: Target) -> Rollback:
    """Find what a rollback would delete in the first destination of the settings; changes nothing.

    Raises:
        NothingToRollBackError: If there is no such run, session or meeting; says how to see which there are.
        F1HBaseError: If there is no such place, or it cannot be reached.
    """
    location = config.settings.to[0]
    module = _module(ROLLBACKS, _ANY_URL_ROLLBACK, location, "rollback")
    find: Callable[[Config, str, Target], Rollback] = module.open_rollback
    return find(config, location, target)
