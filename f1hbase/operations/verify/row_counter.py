"""HBase's own MapReduce job that counts rows, run with the `hbase` command."""

from __future__ import annotations

import re
import shutil
import subprocess

from f1hbase.errors import F1HBaseError, SetupError

_CLASS = "org.apache.hadoop.hbase.mapreduce.RowCounter"
_COUNTER = re.compile(r"^\s*ROWS=(\d+)\s*$", re.MULTILINE)


def find_hbase_command() -> str:
    """Return where the `hbase` command is.

    Raises:
        SetupError: If there is none; says where there is one.
    """
    found = shutil.which("hbase")
    if found is None:
        raise SetupError(
            "RowCounter needs the command 'hbase', which is not on the PATH. Run this on the master node of the "
            'cluster (on EMR it is there), or for the local HBase put scripts/bin on the PATH: PATH="$PWD/scripts/bin:'
            '$PATH". Without --row-counter the rows are counted through the Thrift gateway.'
        )
    return found


def count_rows(hbase: str, table: str, family: str) -> int:
    """Return how many rows of a table have cells in a column family, as RowCounter counts them.

    Raises:
        F1HBaseError: If the job fails.
    """
    command = [hbase, _CLASS, table, family]
    result = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    output = result.stdout.decode(errors="replace")
    if result.returncode != 0:
        raise F1HBaseError(
            f"RowCounter failed with exit code {result.returncode}: {_last_error(output)}. "
            f"To see all it says: hbase {' '.join(command[1:])}"
        )
    return rows_in(output)


def rows_in(output: str) -> int:
    """Return the count in what RowCounter prints; a counter that was never raised is not printed."""
    found = _COUNTER.findall(output)
    return int(found[-1]) if found else 0


def _last_error(output: str) -> str:
    """The line that says most of why a Java program failed: its last exception, or else its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if ("Exception" in line or "ERROR" in line) and not line.startswith("at ")]
    return (errors or lines or ["it says nothing"])[-1][:300]
