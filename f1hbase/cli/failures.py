"""Tells somebody that a command has failed: a webhook, or a command of the user's that no shell reads.

What it says has no settings and no credentials in it. It takes a bounded time, and when it fails that is a warning:
the exit code is the run's.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import IO, Any
from urllib.parse import urlsplit

from f1hbase.config import variable
from f1hbase.credentials import SECRET_VARIABLES, redacted, register_secret
from f1hbase.model.text import safe
from f1hbase.version import __version__

_log = logging.getLogger(__name__)

ADDRESS_SECONDS = 20.0
"""How long an address may take to answer."""

COMMAND_SECONDS = 60.0
"""How long a command may run before it is ended, with all that it has started."""

INTERRUPTED = 128 + signal.SIGINT
"""Who interrupts a run knows of it."""

_LONGEST_REASON = 500
_SECRETS_OF_OTHERS = frozenset({"AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "DATABRICKS_TOKEN"})
_OWN = frozenset({variable("on_failure")})
"""A command that runs f1hbase itself must not tell itself of its failures."""


@dataclass
class OnFailure:
    """Who is told of a failure, and what is known of the run meanwhile.

    Attributes:
        target: An http(s) address or a command line; empty where nobody is told.
        command: What runs: `load`, `live`.
        counts: What the run has done, for people: whole numbers by name.
    """

    target: str = ""
    command: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    _started: datetime = field(default_factory=lambda: datetime.now(UTC))
    _since: float = field(default_factory=monotonic)

    def arm(self, target: str, command: str) -> None:
        """Set who is told, and of what command; it may be a secret, as the addresses of webhooks are."""
        if is_address(target):
            register_secret(target)
        self.target, self.command = target, command

    def tell(self, exit_code: int, reason: str = "", began: datetime | None = None) -> None:
        """Tell of an exit code other than 0, unless somebody has interrupted the run; never fails.

        Args:
            exit_code: The exit code, or the one that a part of the run would have had.
            reason: Why, for people.
            began: When that part of the run began, if it is not all of it.
        """
        if not self.target or exit_code in (0, INTERRUPTED):
            return
        body = json.dumps(self.summary(exit_code, reason, began)).encode()
        try:
            if is_address(self.target):
                _post(self.target, body)
            else:
                _run([*shlex.split(self.target), self.command, str(exit_code)], body)
        except _CannotTellError as error:
            _log.warning("the failure was not told to %s: %s", shown(self.target), safe(redacted(str(error)), 200))
        else:
            _log.info("the failure was told to %s", shown(self.target))

    def summary(self, exit_code: int, reason: str, began: datetime | None = None) -> dict[str, Any]:
        """Return what is told, in JSON's types."""
        seconds = monotonic() - self._since if began is None else (datetime.now(UTC) - began).total_seconds()
        return {
            "command": self.command,
            "exit_code": exit_code,
            "reason": safe(redacted(reason), _LONGEST_REASON),
            "counts": self.counts,
            "started": (began or self._started).isoformat(timespec="seconds"),
            "seconds": round(seconds, 1),
            "host": socket.gethostname(),
            "version": __version__,
        }


class _CannotTellError(Exception):
    """Why somebody was not told."""


def is_address(target: str) -> bool:
    """Return whether somebody is told over HTTP."""
    return target.lower().startswith(("http://", "https://"))


def shown(target: str) -> str:
    """Return who is told, without what may be a secret: an address by its host, a command by its program."""
    return urlsplit(target).netloc if is_address(target) else f"'{shlex.split(target)[0]}'"


def _post(url: str, body: bytes) -> None:
    """Send JSON to an address; a redirect is a failure, as following it would tell somebody else."""
    # Here, as a start should not take 50 ms for what a failure alone needs.
    import http.client
    import urllib.error
    import urllib.request

    class NoRedirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, req: urllib.request.Request, *_: Any) -> None:
            return None

    headers = {"Content-Type": "application/json", "User-Agent": f"f1hbase/{__version__}"}
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")  # noqa: S310 - http(s) alone
    opener = urllib.request.build_opener(NoRedirects)
    failed: list[str] = [f"no answer within {ADDRESS_SECONDS:g} s"]

    def send() -> None:
        try:
            with opener.open(request, timeout=ADDRESS_SECONDS):
                failed.clear()
        except urllib.error.HTTPError as error:
            failed[:] = [f"HTTP {error.code}"]
        except urllib.error.URLError as error:
            failed[:] = [str(error.reason)]
        except (OSError, http.client.HTTPException, ValueError) as error:
            failed[:] = [f"{type(error).__name__}: {error}"]

    # In a thread, as looking up a name has no time limit, nor has an answer that comes a byte at a time.
    thread = threading.Thread(target=send, name="on-failure", daemon=True)
    thread.start()
    thread.join(ADDRESS_SECONDS)
    if failed:
        raise _CannotTellError(failed[0])


def _run(words: list[str], body: bytes) -> None:
    """Run a command with JSON at its standard input; without the credentials of this process."""
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.PIPE, env=without_secrets(os.environ), start_new_session=True
        )
    except (OSError, ValueError) as error:
        raise _CannotTellError(getattr(error, "strerror", None) or str(error)) from error
    try:
        process.communicate(body, timeout=COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        _end(process)
        raise _CannotTellError(f"it was ended after {COMMAND_SECONDS:g} s") from None
    except BaseException:
        _end(process)
        raise
    if process.returncode != 0:
        raise _CannotTellError(f"it ended with {process.returncode}")


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    stdin: IO[bytes] | None = process.stdin
    if stdin is not None:
        with suppress(OSError):
            stdin.close()
    process.wait()


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the variables that hold credentials."""
    hidden = SECRET_VARIABLES | _SECRETS_OF_OTHERS | _OWN
    return {name: value for name, value in environment.items() if name not in hidden}


ON_FAILURE = OnFailure()
"""Who is told when this process's command fails."""
