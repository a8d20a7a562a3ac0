"""Looks at this machine: Python, packages, settings, files, memory. Writes nothing."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import psutil
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet

from f1hbase.config import Config, Settings
from f1hbase.credentials import Credentials, exposed_file_warning
from f1hbase.model.text import count, size
from f1hbase.operations.doctor.base import Check, Grade

_PACKAGE = "f1hbase"

_ENOUGH_SPACE = 1_000_000_000
_LEAST_SPACE = 100_000_000
"""Bytes of disk. `populate.log` has a line of some 200 bytes for each request: 60 MB for all seasons since 2023."""

_BYTES_PER_PROCESS = 100_000_000
"""What a worker holds at the most, by and large: a decoded answer, waiting ones, and the rows of a put."""

_FILES_PER_PROCESS = 64
"""What a process has open beside its requests: the log, HBase, pipes, the limiter, libraries."""
_FILES_PER_WORKER = 4
"""What the parent has open for each worker."""


def check_python(version: str = platform.python_version()) -> Check:
    """Compare the Python version with what the project asks for."""
    wanted = _own_metadata("Requires-Python") or ">=3.11"
    if SpecifierSet(wanted).contains(version, prereleases=True):
        return Check(Grade.OK, "Python", f"{version} (needs {wanted})")
    fix = "make a virtual environment with a newer one: scripts/setup.sh"
    return Check(Grade.FAIL, "Python", f"{version}, but f1hbase needs {wanted}", fix)


def check_packages(requirements: Iterable[str] | None = None) -> Check:
    """Compare the installed packages with what the project asks for.

    Args:
        requirements: As in the package's metadata (`aiohttp<3.14,>=3.13`); by default those of f1hbase.
    """
    if requirements is None:
        try:
            requirements = metadata.requires(_PACKAGE) or ()
        except metadata.PackageNotFoundError:
            fix = "install it with scripts/setup.sh, or pip install -e ."
            return Check(Grade.WARN, "packages", "f1hbase is not installed, so nothing says which it needs", fix)
    good, wrong, fixes = [], [], []
    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        name, wanted = requirement.name, requirement.specifier
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            version = ""
        if version and wanted.contains(version, prereleases=True):
            good.append(f"{name} {version}")
            continue
        wrong.append(f"{name} {version or 'is absent'}, needs {wanted or 'any'}")
        fixes.append(f"'{name}{wanted}'")
    if wrong:
        return Check(Grade.FAIL, "packages", "; ".join(wrong), f"pip install {' '.join(fixes)}, or scripts/setup.sh")
    return Check(Grade.OK, "packages", ", ".join(good))


def check_settings(config: Config) -> Check:
    """Say which settings file was read; one that cannot be read ends every command before it begins."""
    path, content = config.file.path, config.file.content
    if path is None:
        return Check(Grade.OK, "settings", "no f1hbase.toml here: options, environment and defaults")
    return Check(Grade.OK, "settings", f"{path}, {count(len(content), 'key')}")


def check_credentials(credentials: Credentials | None, complaint: str, config: Config) -> Check:
    """Say whether there are credentials, never which, and whether others can read them.

    Args:
        credentials: Those that are used.
        complaint: Why those that were given cannot be used; empty if they can.
        config: Says which file they may be in.
    """
    if complaint:
        return Check(Grade.FAIL, "credentials", complaint, "give both, or neither")
    path, content = config.file.path, config.file.content
    exposed = None if path is None else exposed_file_warning(path, content)
    if exposed is not None:
        found, _, fix = exposed.partition("; ")
        return Check(Grade.WARN, "credentials", found, fix)
    if credentials is None:
        return Check(Grade.OK, "credentials", "none: OpenF1 is used free of charge")
    return Check(Grade.OK, "credentials", "username and password are there")


def check_log_file(path: Path) -> Check:
    """Look whether the log can be written, and whether there is room for it."""
    elsewhere = "name another place with --log-file"
    if path.is_dir():
        return Check(Grade.FAIL, "log file", f"{path} is a folder", elsewhere)
    if path.exists() and not os.access(path, os.W_OK):
        return Check(Grade.FAIL, "log file", f"{path} cannot be written", elsewhere)
    if not path.parent.is_dir():
        return Check(Grade.FAIL, "log file", f"there is no folder {path.parent}", f"make it, or {elsewhere}")
    return _room("log file", str(path), path.parent, elsewhere)


def check_state_folder(folder: Path) -> Check:
    """Look whether the folder can be written that processes share the API's limits through."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    fix = "set XDG_STATE_HOME to a folder that can be written"
    return _room("state folder", str(folder), existing, fix)


def check_open_files(settings: Settings, limit: int) -> Check:
    """Compare the limit of open files with what a process needs, the parent of all included."""
    worker = settings.max_concurrent_requests + _FILES_PER_PROCESS
    needed = max(worker, settings.processes * _FILES_PER_WORKER + _FILES_PER_PROCESS)
    if limit in {resource.RLIM_INFINITY, -1} or limit >= needed:
        shown = "unlimited" if limit in {resource.RLIM_INFINITY, -1} else f"{limit:,}"
        return Check(Grade.OK, "open files", f"{shown} allowed, about {needed:,} needed")
    fix = f"ulimit -n {max(1024, 2 * needed)}, or lower --processes and --max-concurrent-requests"
    return Check(Grade.FAIL, "open files", f"{limit:,} allowed, about {needed:,} needed", fix)


def check_memory(processes: int, available: int) -> Check:
    """Compare the free memory, in bytes, with what so many processes take."""
    needed = (processes + 1) * _BYTES_PER_PROCESS
    found = f"{size(available)} free; {processes} and the parent need about {size(needed)} (--processes {processes})"
    if available >= needed:
        return Check(Grade.OK, "memory", found)
    fit = max(1, available // _BYTES_PER_PROCESS - 1)
    return Check(Grade.WARN, "memory", found, f"--processes {fit}")


def check_hbase_command(command: str | None) -> Check:
    """Say whether there is an `hbase` command, without which tables cannot be created as they are best."""
    if command is not None:
        return Check(Grade.OK, "hbase command", command)
    found = "not on the PATH: load cannot set encodings and split points when it creates the tables"
    fix = 'run this where HBase is installed; for the local HBase: PATH="$PWD/scripts/bin:$PATH"'
    return Check(Grade.WARN, "hbase command", found, fix)


def _room(name: str, what: str, folder: Path, fix: str) -> Check:
    try:
        writable, free = os.access(folder, os.W_OK | os.X_OK), psutil.disk_usage(str(folder)).free
    except OSError as error:
        return Check(Grade.FAIL, name, f"{folder}: {(error.strerror or str(error)).lower()}", fix)
    if not writable:
        return Check(Grade.FAIL, name, f"{folder} cannot be written", fix)
    if free >= _ENOUGH_SPACE:
        return Check(Grade.OK, name, f"{what}, {size(free)} free")
    grade = Grade.WARN if free >= _LEAST_SPACE else Grade.FAIL
    return Check(grade, name, f"{what}, only {size(free)} free", f"free {size(_ENOUGH_SPACE)}, or {fix}")


def _own_metadata(name: str) -> str | None:
    try:
        return str(metadata.metadata(_PACKAGE)[name])
    except metadata.PackageNotFoundError:
        return None
