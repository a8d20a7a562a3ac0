"""The checks before a run: each says what it found and, where something is wrong, what to do.

Writes nothing but a small object into each landing zone that is loaded into, and deletes it again.
"""

from __future__ import annotations

import resource
from collections.abc import Collection, Iterator

import psutil

from f1hbase.config import Config
from f1hbase.errors import ConfigError, SetupError
from f1hbase.operations.doctor import machine
from f1hbase.operations.doctor.api import check_api
from f1hbase.operations.doctor.base import Check, Grade
from f1hbase.operations.doctor.files import check_source, check_zone
from f1hbase.operations.doctor.hbase import check_hbase
from f1hbase.operations.doctor.jolpica import check_jolpica
from f1hbase.operations.doctor.lines import doctor_json, doctor_lines, judgement
from f1hbase.sources.http.limiter import end_pause
from f1hbase.sources.jolpica import recipe as jolpica
from f1hbase.sources.jolpica import source as jolpica_source
from f1hbase.sources.openf1.recipe import options_of, options_with
from f1hbase.sources.openf1.source import shared_path
from f1hbase.sources.recordings import is_recording
from f1hbase.stores.hbase.shell import find_shell

__all__ = ["Check", "Grade", "doctor_json", "doctor_lines", "examine", "judgement", "resume_requests"]

_HBASE, _OPENF1, _JOLPICA = "hbase", "openf1", "jolpica"


def resume_requests(config: Config) -> None:
    """End the pause of all requests to the API (of `--from jolpica`, to Jolpica) that an earlier run has left.

    Raises:
        F1HBaseError: If the file that processes share cannot be written.
    """
    if config.settings.source == _JOLPICA:
        shared = jolpica_source.shared_path(jolpica.options_of(config.settings))
    else:
        shared = shared_path(options_with(config.settings, None))
    try:
        end_pause(shared)
    except OSError as error:
        raise SetupError(f"the pause cannot be ended: {(error.strerror or str(error)).lower()}.") from error


def examine(config: Config, registered: Collection[str] = (_HBASE, _OPENF1)) -> Iterator[Check]:
    """Yield each check as it is done, the quick ones first.

    Args:
        config: The settings.
        registered: The sources and destinations that have names of their own; others are places of files.
    """
    settings, complaint = config.settings, ""
    try:
        options = options_of(config)
    except ConfigError as error:
        options, complaint = options_with(settings, None), str(error)
    yield machine.check_python()
    yield machine.check_packages()
    yield machine.check_settings(config)
    yield machine.check_credentials(options.credentials, complaint, config)
    yield machine.check_log_file(settings.log_file)
    yield machine.check_state_folder(shared_path(options).parent)
    yield machine.check_open_files(settings, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    yield machine.check_memory(settings.processes, psutil.virtual_memory().available)
    if _HBASE in settings.to:
        yield machine.check_hbase_command(find_shell())
    if _HBASE in (*settings.to, settings.source):
        yield from check_hbase(settings)
    for place in settings.to:
        if place not in registered:
            yield from check_zone(config, place)
    if settings.source == _OPENF1:
        yield from check_api(options)
    elif settings.source == _JOLPICA:
        yield from check_jolpica(jolpica.options_of(settings))
    elif settings.source not in registered and not is_recording(settings.source):
        yield check_source(config)
