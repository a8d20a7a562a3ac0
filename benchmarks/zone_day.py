"""A real day through a landing zone on S3: what it takes, and whether the table is the one that a direct load makes.

`python -m benchmarks.zone_day FOLDER [--layout extractor]`: FOLDER has the records of a session by endpoint (a real
test day of 9 hours and 18 cars has 1.8 million). A replay server serves them without limits, moto is the S3, HBase a
real one; all are started here. Prints Markdown; exit code 1 if the tables differ, or a second run does anything.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

import happybase
import obstore
from obstore.store import S3Store

from benchmarks.servers import HOST, ROOT, LocalHBase, ReplayServer

_BUCKET = "day"


def load(folder: Path, environment: dict[str, str], *options: str) -> tuple[float, str]:
    """Run a load that must succeed; return its seconds and what it printed."""
    began = monotonic()
    result = subprocess.run(
        [sys.executable, "-m", "f1hbase", "load", *options], cwd=folder, env=os.environ | environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if result.returncode:
        raise SystemExit(f"load {' '.join(options)}: exit {result.returncode}\n{result.stdout[-3000:]}")
    return monotonic() - began, result.stdout


def objects(url: str) -> dict[str, tuple[int, str]]:
    """Return size and tag of each object but those of runs and leases."""
    store = S3Store(
        _BUCKET, access_key_id="testing", secret_access_key="testing", region="us-east-1", endpoint=url,  # noqa: S106
        client_options={"allow_http": True},
    )  # fmt: skip
    return {
        one["path"]: (one["size"], str(one["e_tag"]))
        for chunk in obstore.list(store)
        for one in chunk
        if "/_state/runs/" not in one["path"] and "/_state/leases/" not in one["path"]
    }


def digest(port: int, table: str) -> tuple[int, int, str]:
    """Return how many rows and cells a table has, and a digest of every cell's row, column and value."""
    connection = happybase.Connection(HOST, port)
    rows = cells = 0
    total = hashlib.sha256()
    try:
        for key, row in connection.table(table).scan(batch_size=5_000):
            rows, cells = rows + 1, cells + len(row)
            total.update(repr((key, sorted(row.items()))).encode())
    finally:
        connection.close()
    return rows, cells, total.hexdigest()


def main() -> int:
    """Run it once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layout", default="units")
    options = parser.parse_args()
    wrong = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        hbase = stack.enter_context(LocalHBase(folder / "hbase"))
        api = stack.enter_context(ReplayServer(options.folder.resolve()))
        s3 = stack.enter_context(_Moto())
        environment = {
            "F1HBASE_API_URL": api.url, "F1HBASE_HBASE_HOST": HOST, "F1HBASE_HBASE_PORT": str(hbase.gateway.port),
            "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": s3.url, "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        zone = f"s3://{_BUCKET}/zone"
        ways = {
            "API to HBase": ("--to", "hbase", "--table-prefix", "direct"),
            "API to S3": ("--to", zone, "--layout", options.layout),
            "API to S3, again": ("--to", zone),
            "S3 to HBase": ("--from", zone, "--to", "hbase", "--table-prefix", "zone"),
            "S3 to HBase, again": ("--from", zone, "--to", "hbase", "--table-prefix", "zone"),
        }
        print("| load | seconds | requests to the API |\n| --- | --- | --- |")
        before: dict[str, tuple[int, str]] = {}
        for name, arguments in ways.items():
            began = monotonic()
            seconds, printed = load(folder, environment, *arguments)
            asked = [one["path"] for one in api.requests_since(began)]
            print(f"| {name} | {seconds:.1f} | {len(asked)} |", flush=True)
            stored = objects(s3.url)
            if "again" in name and "0 sessions worked on" not in printed and "units failed" not in printed:
                wrong.append(f"{name} did something: {printed[-800:]}")
            if "again" in name and any(not path.endswith(("/sessions", "/meetings")) for path in asked):
                wrong.append(f"{name} asked for {asked}")
            if name != "API to S3" and stored != before:
                wrong.append(f"{name} changed {len(stored.items() ^ before.items())} objects")
            before = stored
        answers = {path: size for path, (size, _) in before.items() if "/_state/" not in path}
        total = sum(size for size, _ in before.values())
        print(f"\n{len(before):,} objects of {total / 1e6:.1f} MB, {len(answers):,} of them answers or files")
        tables = [digest(hbase.gateway.port, f"{prefix}_f1_data") for prefix in ("direct", "zone")]
        rows, cells, _ = tables[0]
        verdict = "the same" if tables[0] == tables[1] else "NOT THE SAME"
        print(f"{rows:,} rows of {cells:,} cells: the tables are {verdict}")
        if tables[0] != tables[1]:
            wrong.append(f"the tables differ: {tables}")
    print("\n".join(wrong))
    return 1 if wrong else 0


class _Moto:
    """moto's server with a bucket, a process of its own, during a `with` block."""

    def __enter__(self) -> _Moto:
        code = (
            "from moto.server import ThreadedMotoServer; from moto.core.models import DEFAULT_ACCOUNT_ID as account;"
            "from moto.s3.models import s3_backends; server = ThreadedMotoServer('127.0.0.1', 0, verbose=False);"
            "server.start(); s3_backends[account]['aws'].create_bucket('day', 'us-east-1');"
            "print(*server.get_host_and_port(), flush=True); input()"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        host, port = self._process.stdout.readline().split()
        self.url = f"http://{host}:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


if __name__ == "__main__":
    sys.exit(main())
