"""The genuine `hbase shell`, which can set what Thrift cannot: the encoding of blocks, and where a table is split."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress

from f1hbase.errors import F1HBaseError

_SECONDS = 180.0
"""How long a script may take. The shell alone takes about ten seconds to start; without HBase it would try for ever."""

_ERROR = re.compile(r"^(?:ERROR|Unhandled Java exception|\w*Error): |Exception: ")
_JAVA_CLASSES = re.compile(r"(?:(?:Unhandled Java exception|ERROR|[\w.$]+(?:Exception|Error)(?:\([\w.$]+\))?): )+")


class ShellError(F1HBaseError):
    """The shell could not be run, or its script failed; the message is the shell's own."""


def disabled(table: str) -> str:
    """Return that a table is disabled, and what to type."""
    return f"the table '{table}' is disabled; in hbase shell: enable '{table}'"


def find_shell() -> str | None:
    """Return where the `hbase` command is; None if it is not on the PATH."""
    return shutil.which("hbase")


def run_shell(hbase: str, script: str, seconds: float = _SECONDS) -> str:
    """Run a script in `hbase shell`, which stops at its first error.

    Args:
        hbase: The `hbase` command.
        script: What is typed, in Ruby.
        seconds: How long it may take.

    Returns:
        What the shell prints, errors and prompts included.

    Raises:
        ShellError: If it cannot be started, fails, or takes longer.
    """
    try:
        # A process group of its own: whatever the command starts can be ended with it.
        process = subprocess.Popen(
            [hbase, "shell", "-n"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            process_group=0,
        )  # fmt: skip
    except OSError as error:
        raise ShellError(f"'{hbase}' cannot be started: {error.strerror}") from error
    with process:
        try:
            printed, _ = process.communicate(script.encode(), seconds)
        except subprocess.TimeoutExpired as error:
            raise ShellError(f"hbase shell has not ended after {seconds:g} s") from error
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    output = printed.decode(errors="replace")
    if process.returncode:
        raise ShellError(_first_error(output) or f"hbase shell ended with exit code {process.returncode}")
    return output


def _first_error(output: str) -> str:
    """The line that says why the shell stopped, without the names of Java's classes."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR.search(line)]
    line = (errors or lines[-1:] or [""])[0]
    return (_JAVA_CLASSES.sub("", line, count=1) or line)[:300]
