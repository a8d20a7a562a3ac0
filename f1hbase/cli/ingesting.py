"""The command `ingest`."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from f1hbase.cli.failures import ON_FAILURE
from f1hbase.cli.logs import set_up_logging
from f1hbase.cli.options import click_options, config_of, tell
from f1hbase.errors import F1HBaseError
from f1hbase.levels import SUCCESS
from f1hbase.model.text import count, safe

if TYPE_CHECKING:
    from f1hbase.operations.ingest import Ingester

_log = logging.getLogger(__name__)

_AT_ONCE = 8
_WHERE = ("hbase_host", "hbase_port", "hbase_transport", "hbase_protocol", "table_prefix")
_STORED, _THERE, _ABSENT, _FAILED, _LATER = "stored", "there already", "not there", "failed", "to be tried later"


@click.command("ingest", short_help="Put data files of any kind into a landing zone, each content once.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@click.option(
    "--header", "headers", multiple=True, metavar="NAME=VALUE", help="What is recorded of the files; repeatable."
)
@click.option("--check-only", is_flag=True, help="Only say whether they are there: exit 0 if all are, 1 if not.")
@click_options(
    ("to", "catalogue", "required_header", *_WHERE, "patience", "on_failure", "log_file", "quiet", "verbose")
)
def ingest_command(*, paths: tuple[Path, ...], headers: tuple[str, ...], check_only: bool, **options: Any) -> None:
    """Store files in a folder or bucket, once, known by their MD5, and record each; folders with all that is in them.

    What is there already under any name is left alone. The store's MD5 is compared with the file's. Links in a folder
    are passed over.

    \b
    Examples:
      ingest laps.csv --to ./zone
      ingest ./night --to s3://bucket/f1 --header SITE=silverstone --required-header SITE
      ingest laps.csv --to ./zone --check-only

    \b
    Exit codes:
      0 all stored or there already    1 some are wrong or refused    2 wrong usage
      3 store or catalogue away: run the same again
    """
    from f1hbase.composition import open_ingester

    config = config_of(options)
    settings = config.settings
    set_up_logging(
        sys.stdout, None if check_only else settings.log_file, quiet=settings.quiet, verbose=settings.verbose
    )
    tell(config)
    metadata = _headers(headers)
    ingester = open_ingester(config, on_command_line=True)
    work: Callable[[Path], str] = (
        (lambda path: _check(ingester, path)) if check_only else (lambda path: _ingest(ingester, path, metadata))
    )
    with ThreadPoolExecutor(_AT_ONCE, "ingest") as threads:
        outcomes = Counter(threads.map(work, _files(paths)))
    if not outcomes:
        raise click.UsageError("There is no file in these folders.")
    ON_FAILURE.counts = {outcome.replace(" ", "_"): number for outcome, number in outcomes.items()}
    summary = ", ".join(f"{number:,} {outcome}" for outcome, number in outcomes.items())
    good = not (outcomes.keys() - {_STORED, _THERE})
    _log.log(SUCCESS if good else logging.WARNING, "%s: %s", count(outcomes.total(), "file"), summary)
    sys.exit(0 if good else 3 if outcomes[_LATER] else 1)


def _ingest(ingester: Ingester, path: Path, metadata: dict[str, str]) -> str:
    from f1hbase.operations.ingest import AlreadyThereError

    try:
        with path.open("rb") as file:
            record = ingester.ingest(file, path, metadata)
    except AlreadyThereError as error:
        _log.debug("%s", error)
        return _THERE
    except (F1HBaseError, OSError) as error:
        return _failed(error, path)
    _log.debug("%s: stored as %s", safe(str(path), 200), record.url)
    return _STORED


def _check(ingester: Ingester, path: Path) -> str:
    try:
        with path.open("rb") as file:
            there = ingester.file_exists(file, path)
    except (F1HBaseError, OSError) as error:
        return _failed(error, path)
    _log.info("%s: %s", safe(str(path), 200), _THERE if there else _ABSENT)
    return _THERE if there else _ABSENT


def _failed(error: F1HBaseError | OSError, path: Path) -> str:
    from f1hbase.operations.ingest import RetryLaterError

    if isinstance(error, OSError) and not isinstance(error, F1HBaseError):
        _log.error("%s: it cannot be read: %s.", safe(str(path), 200), (error.strerror or str(error)).lower())
        return _FAILED
    _log.error("%s", error)
    return _LATER if isinstance(error, RetryLaterError) else _FAILED


def _files(paths: Iterable[Path]) -> Iterable[Path]:
    """Yield the files, and those in folders by their names; a pipe is refused, as it could not be read twice.

    A link that is named is the user's word. One that is found in a folder may be somebody else's, and lead to any file.
    """
    for path in paths:
        if path.is_dir():
            found = sorted(path.rglob("*"))
            if links := [one for one in found if one.is_symlink()]:
                _log.warning(
                    "%s: %s passed over, such as %s; name one to have what it leads to", safe(str(path), 200),
                    count(len(links), "link"), safe(str(links[0]), 200),
                )  # fmt: skip
            yield from (one for one in found if one.is_file() and not one.is_symlink())
        elif path.exists() and not path.is_file():
            raise click.UsageError(f"{safe(str(path), 200)} is neither a file nor a folder.")
        else:
            yield path


def _headers(texts: Iterable[str]) -> dict[str, str]:
    headers = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise click.UsageError(f"--header {safe(text, 80)}: write NAME=VALUE.")
        headers[name.strip()] = value
    return headers
