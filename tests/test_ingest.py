"""`ingest`: a file of any kind is stored once, recorded once, and every failure says whether to try again."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cli import loader_of
from hbase_server import LocalHBase
from moto.server import ThreadedMotoServer
from opentsdb_server import OpenTsdbServer
from test_files_load import run

import f1hbase
from f1hbase.composition import open_ingester
from f1hbase.config import resolve
from f1hbase.errors import ConfigError
from f1hbase.model.files import file_record
from f1hbase.operations.ingest import AlreadyThereError, DoNotRetryError, Ingester, RetryLaterError
from f1hbase.operations.ingest.catalogues import ArchiveCatalogue
from f1hbase.operations.ingest.stores import NoFiles, md5_of
from f1hbase.stores.files.clients import PART_BYTES
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.hbase.connector import HBaseConnector, find_gateways

SHARE = 10
"""Of so many files each three have the content of another one."""


def make_files(folder: Path, number: int) -> int:
    """Write files, of which three in ten have the content of another; return how many contents there are."""
    folder.mkdir()
    for one in range(number):
        original = one - 3 if one % SHARE >= SHARE - 3 else one
        (folder / f"lap-{one}.csv").write_text(f"lap,seconds\n{original},{original * 7 % 91}\n")
    return number - 3 * (number // SHARE)


def ingester(place: str, **environment: str) -> Ingester:
    return open_ingester(resolve({"to": [place], "patience": "0"}, environment={}), environment)


def ingest(one: Ingester, content: bytes, name: str = "lap.csv", **headers: str) -> Any:
    return one.ingest(io.BytesIO(content), name, headers)


# --- many files ---


def test_of_a_thousand_files_each_content_is_stored_and_recorded_once(tmp_path: Path) -> None:
    contents = make_files(tmp_path / "made", 1000)
    printed = run("f1hbase", "ingest", "made", "--to", "./zone", cwd=tmp_path)
    assert "1,000 files: " in printed
    assert "700 stored" in printed
    assert "300 there already" in printed
    stored = [path for path in (tmp_path / "zone/files").rglob("*") if path.is_file()]
    records = [file_record(path.read_bytes()) for path in (tmp_path / "zone/_state/ingested").glob("*.json")]
    assert len(stored) == len(records) == contents == 700
    for record in records:
        content = (tmp_path / "zone/files" / record.basename / record.md5).read_bytes()
        assert hashlib.md5(content).hexdigest() == record.md5
        assert (len(content), record.version) == (record.size, 1)
    assert "1,000 there already" in run("f1hbase", "ingest", "made", "--to", "./zone", cwd=tmp_path)
    assert "1,000 there already" in run("f1hbase", "ingest", "made", "--to", "./zone", "--check-only", cwd=tmp_path)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "hunter2", "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "BUCKET": "frames",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    s3_backends[DEFAULT_ACCOUNT_ID]["aws"].create_bucket("frames", "us-east-1")
    yield "s3://frames/f1"
    s3_backends[DEFAULT_ACCOUNT_ID]["aws"].reset()
    server.stop()


def test_in_s3_as_well_small_files_and_one_of_several_parts(bucket: str, tmp_path: Path) -> None:
    make_files(tmp_path / "made", 50)
    with (tmp_path / "made" / "large.bin").open("wb") as file:
        file.write(os.urandom(2 * PART_BYTES + 1))
    printed = run("f1hbase", "ingest", "made", "--to", bucket, cwd=tmp_path)
    assert "36 stored" in printed
    assert "15 there already" in printed
    one = open_ingester(resolve({}, environment={}), {"FILESTORE_TYPE": "s3"})  # the bucket itself, as there
    with (tmp_path / "made" / "large.bin").open("rb") as file:
        md5, size = md5_of(file)
        record = one.ingest(file, "large.bin")
    assert (record.md5, record.size, record.url) == (md5, size, f"s3://frames/files/large.bin/{md5}")


@pytest.mark.skipif(not os.environ.get("TEST_ALL"), reason="a thousand files in S3 take scripts/test.sh --all")
def test_in_s3_too_of_a_thousand_files_each_content_is_stored_once(bucket: str, tmp_path: Path) -> None:
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    make_files(tmp_path / "made", 1000)
    printed = run("f1hbase", "ingest", "made", "--to", bucket, cwd=tmp_path)
    assert "700 stored" in printed
    assert "300 there already" in printed
    keys = list(s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets["frames"].keys)
    assert sum("/files/" in key for key in keys) == 700
    assert sum("/_state/ingested/" in key for key in keys) == 700


@pytest.mark.parametrize("size", [10, PART_BYTES + 10])
def test_an_s3_that_has_other_bytes_is_to_be_tried_again_and_nothing_is_recorded(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    from moto.s3.models import FakeMultipart, S3Backend

    put, part = S3Backend.put_object, FakeMultipart.set_part

    def damaged_put(self: Any, bucket_name: str, key_name: str, value: bytes, *rest: Any, **named: Any) -> Any:
        return put(self, bucket_name, key_name, b"X" + value[1:], *rest, **named)

    def damaged_part(self: Any, number: int, value: bytes) -> Any:
        return part(self, number, b"X" + value[1:])

    monkeypatch.setattr(S3Backend, "put_object", damaged_put)
    monkeypatch.setattr(FakeMultipart, "set_part", damaged_part)
    one = ingester(bucket)
    with pytest.raises(RetryLaterError, match="not received as it was sent"):
        ingest(one, b"1" * size)
    monkeypatch.undo()
    assert not one.file_exists(io.BytesIO(b"1" * size))


# --- one file, from Python ---


def test_each_step_by_itself_and_all_of_them(tmp_path: Path) -> None:
    one = f1hbase.ingester(to=tmp_path / "zone")
    file = io.BytesIO(b"1,2\n")
    assert not one.file_exists(file)
    valid = one.validate(file, "made/lap.csv", {"DRIVER": "44"})
    assert (valid.basename, valid.size, valid.headers, valid.url) == ("lap.csv", 4, {"DRIVER": "44"}, "")
    stored = one.upload(file, valid)
    assert not one.file_exists(file), "it is not recorded yet"
    assert one.upload(file, valid) == stored, "as after a kill"
    recorded = one.record(stored)
    assert one.file_exists(file)
    written = file_record((tmp_path / "zone/_state/ingested" / f"{valid.md5}.json").read_bytes())
    assert written == recorded
    with pytest.raises(AlreadyThereError, match=valid.md5):
        one.ingest(file, "another-name.csv")


def test_another_content_of_a_name_is_another_version(tmp_path: Path) -> None:
    one = ingester(str(tmp_path / "zone"))
    assert [ingest(one, content).version for content in (b"a", b"b", b"c")] == [1, 2, 3]


@pytest.mark.parametrize("name", ["a#b %41?.csv", "größe.csv", "..csv", "a\\b\n.csv", "x" * 200])
def test_any_name_has_a_place_of_its_own(tmp_path: Path, name: str) -> None:
    record = ingest(ingester(str(tmp_path / "zone")), b"1", name)
    assert record.basename == name
    (stored,) = [path for path in (tmp_path / "zone/files").rglob("*") if path.is_file()]
    assert stored.read_bytes() == b"1"
    assert stored == Path(record.url)


@pytest.mark.parametrize("name", ["..", ".", "", "/", "a\0b"])
def test_what_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DoNotRetryError, match="is no name of a file"):
        ingest(ingester(str(tmp_path / "zone")), b"1", name)


def test_headers_that_are_required_and_missing_are_named(tmp_path: Path) -> None:
    one = ingester(str(tmp_path / "zone"), REQUIRED_HEADERS="DATE, SITE,DRIVER")
    with pytest.raises(DoNotRetryError, match=r"lap.csv: it lacks the headers SITE, DRIVER"):
        ingest(one, b"1", DATE="2024-07-07", SITE=" ")
    assert ingest(one, b"1", DATE="2024-07-07", SITE="s", DRIVER="44").headers["DRIVER"] == "44"


def test_a_file_of_no_bytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DoNotRetryError, match="it has 0 bytes"):
        ingest(ingester(str(tmp_path / "zone")), b"")


@pytest.mark.parametrize("size", [10, PART_BYTES + 10])
def test_a_file_that_is_changed_while_it_is_read_is_not_recorded(tmp_path: Path, size: int) -> None:
    one = ingester(str(tmp_path / "zone"))
    path = tmp_path / "growing.csv"
    path.write_bytes(b"1" * size)
    with path.open("rb") as file:
        record = one.validate(file, path)
        path.write_bytes(b"2" * size)
        with pytest.raises(DoNotRetryError, match="changed while it was read"):
            one.upload(file, record)
    assert not [found for found in (tmp_path / "zone").rglob("*") if found.is_file()]


def test_a_store_that_has_other_bytes_is_to_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put = Objects.put

    def damaged(self: Objects, path: str, content: Any, *rest: Any) -> None:
        put(self, path, content, *rest)
        file = Path(self.location.root, path)
        file.write_bytes(b"X" + file.read_bytes()[1:])

    monkeypatch.setattr(Objects, "put", damaged)
    with pytest.raises(RetryLaterError, match="has other bytes than were written"):
        ingest(ingester(str(tmp_path / "zone")), b"123")


def test_of_the_same_content_in_several_threads_one_is_stored(tmp_path: Path) -> None:
    one, outcomes = ingester(str(tmp_path / "zone")), list[str]()

    def work(number: int) -> None:
        try:
            ingest(one, b"same", f"{number}.csv")
            outcomes.append("stored")
        except AlreadyThereError:
            outcomes.append("there")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["stored"] + ["there"] * 7


_LARGEST = pytest.param(
    5_000_000_000,
    marks=pytest.mark.skipif(not os.environ.get("TEST_ALL"), reason="5 GB take scripts/test.sh --all"),
)


@pytest.mark.skipif(sys.platform != "linux", reason="files with holes that take no room")
@pytest.mark.parametrize("size", [150_000_000, _LARGEST])
def test_memory_is_flat_however_large_a_file_is(tmp_path: Path, size: int) -> None:
    path = tmp_path / "large.bin"
    with path.open("wb") as file:
        file.truncate(size)
    # VmHWM: what getrusage says of a process counts what the one that started it had.
    code = (
        "import io, sys, f1hbase\n"
        "def peak(): return int(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])\n"
        "one = f1hbase.ingester(to=sys.argv[2])\n"
        "one.ingest(io.BytesIO(b'1'), 'small.bin')\n"
        "before = peak()\n"
        "with open(sys.argv[1], 'rb') as file: one.ingest(file, 'large.bin')\n"
        "print((peak() - before) / 1024)\n"
    )
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(tmp_path / "zone")], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 70, "MiB more than for a small one"
    (stored,) = (tmp_path / "zone" / "files" / "large.bin").iterdir()
    assert stored.stat().st_size == size
    stored.unlink()


# --- an archive over HTTP ---


class Archive:
    """A science archive on this machine: versions, frames, a token."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.status = 0
        self.tokens: set[str | None] = set()
        archive = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                md5 = self.path.partition("?md5=")[2]
                found = [one for frame in archive.frames for one in frame["version_set"] if one["md5"] == md5]
                self.answer(200, {"count": len(found), "results": found})

            def do_POST(self) -> None:
                frame = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if not archive.status:
                    archive.frames.append(frame)
                self.answer(201, frame)

            def answer(self, status: int, content: Any) -> None:
                archive.tokens.add(self.headers["Authorization"])
                self.send_response(archive.status or status)
                if archive.status == 302:
                    self.send_header("Location", "http://127.0.0.1:1/")
                body = json.dumps(content).encode()
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/api"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def archive() -> Iterator[Archive]:
    one = Archive()
    yield one
    one.server.shutdown()
    one.server.server_close()


def test_a_science_archive_keeps_the_records(archive: Archive, tmp_path: Path) -> None:
    one = ingester(str(tmp_path / "zone"), API_ROOT=archive.url, AUTH_TOKEN="hunter2-token")
    record = ingest(one, b"1,2", "lap.csv.fz", SITE="s")
    (frame,) = archive.frames
    assert frame["basename"] == "lap"
    assert frame["headers"] == {"SITE": "s"}
    assert frame["version_set"] == [{"md5": record.md5, "key": "1", "extension": ".csv.fz", "url": record.url}]
    assert archive.tokens == {"Token hunter2-token"}
    with pytest.raises(AlreadyThereError):
        ingest(one, b"1,2")
    assert not (tmp_path / "zone/_state").exists()


@pytest.mark.parametrize(
    ("status", "error"), [(500, RetryLaterError), (503, RetryLaterError), (429, RetryLaterError),
                          (400, DoNotRetryError), (403, DoNotRetryError), (302, DoNotRetryError)],
)  # fmt: skip
def test_how_an_archive_fails_says_whether_to_try_again(
    archive: Archive, tmp_path: Path, status: int, error: type[Exception]
) -> None:
    archive.status = status
    with pytest.raises(error, match=f"HTTP {status}"):
        ingest(ingester(str(tmp_path / "zone"), API_ROOT=archive.url), b"1")


def test_an_archive_that_is_away_is_to_be_tried_again(tmp_path: Path) -> None:
    with pytest.raises(RetryLaterError, match="does not answer"):
        ingest(Ingester(NoFiles(), ArchiveCatalogue("http://127.0.0.1:1/", "")), b"1")


@pytest.mark.parametrize(
    "root", ["http://127.0.0.1:1/api/?key=hunter2-secret", "http://anna:hunter2-secret@127.0.0.1:1/", "http://a/#x"]
)
def test_an_address_of_an_archive_with_a_query_or_a_user_is_refused_and_not_quoted(root: str) -> None:
    with pytest.raises(ConfigError, match="is no address of an archive") as refused:
        ArchiveCatalogue(root, "")
    assert "hunter2" not in str(refused.value)


def test_a_token_is_not_sent_in_the_clear_to_another_machine() -> None:
    with pytest.raises(ConfigError, match="use https") as refused:
        ArchiveCatalogue("http://archive.example/", "hunter2-token")
    assert "hunter2" not in str(refused.value)


# --- metrics ---


@pytest.mark.parametrize("asynchronous", ["False", "True"])
def test_opentsdb_is_told_of_each_file_as_ingester_libraries_tell_it(tmp_path: Path, asynchronous: str) -> None:
    with OpenTsdbServer() as server:
        one = ingester(
            str(tmp_path / "zone"), OPENTSDB_HOSTNAME=server.address, SUBMIT_METRICS_ASYNCHRONOUSLY=asynchronous
        )
        observed = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        ingest(one, b"1,2", **{"DATE-OBS": observed})
        names = {
            f"ingester.{name}" for name in ("upload_file", "upload_file.runtime", "post_frame", "post_frame.runtime")
        }
        names |= {"ingester.s3_upload_bytes_per_second", "ingester.ingest_lag"}
        deadline = time.monotonic() + 10
        points: dict[str, Any] = {}
        while points.keys() != names and time.monotonic() < deadline and (asynchronous == "True" or not points):
            points = {point["metric"]: point for point in server.points()}
    assert points.keys() == names
    assert 3600 <= points["ingester.ingest_lag"]["value"] < 3660
    assert points["ingester.upload_file"]["tags"]["ingester_process_name"] == "ingester"


def test_an_opentsdb_that_hangs_costs_seconds_and_no_file(tmp_path: Path) -> None:
    with OpenTsdbServer(hangs=True) as server:
        one = ingester(str(tmp_path / "zone"), OPENTSDB_HOSTNAME=server.address)
        began = time.monotonic()
        for number in range(20):
            ingest(one, b"%d" % number)
    assert time.monotonic() - began < 15


# --- where to ---


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "say --to ./zone"),
        ({"FILESTORE_TYPE": "tape"}, "is none of dummy, local, s3"),
        ({"FILESTORE_TYPE": "local"}, "set FILESYSTEM_STORAGE_ROOT_DIR"),
        ({"FILESTORE_TYPE": "dummy"}, "say where records go"),
    ],
)
def test_a_store_that_is_not_said_is_asked_for(environment: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        open_ingester(resolve({}, environment={}), environment)


def test_the_store_is_chosen_as_ingester_libraries_choose_it(archive: Archive, tmp_path: Path) -> None:
    local = {"FILESTORE_TYPE": "local", "FILESYSTEM_STORAGE_ROOT_DIR": str(tmp_path / "root")}
    ingest(open_ingester(resolve({}, environment={}), local), b"1")
    assert (tmp_path / "root/files/lap.csv").is_dir()
    dummy = {"FILESTORE_TYPE": "dummy", "API_ROOT": archive.url}
    assert ingest(open_ingester(resolve({}, environment={}), dummy), b"1").url.startswith("dummy:")


def test_a_file_that_is_not_there_is_one_line_and_the_others_are_stored(tmp_path: Path) -> None:
    (tmp_path / "lap.csv").write_text("1")
    (tmp_path / "empty.csv").write_text("")
    loader = _command(tmp_path)
    printed = loader("ingest", "absent.csv", "empty.csv", "lap.csv", "--to", "./zone", exit_code=1)
    assert "absent.csv: it cannot be read: no such file or directory." in printed
    assert "empty.csv: it has 0 bytes" in printed
    assert "Traceback" not in printed
    assert "1 stored" in printed
    assert "lap.csv: there already" in loader("ingest", "lap.csv", "--to", "./zone", "--check-only")
    assert "empty.csv: not there" in loader("ingest", "empty.csv", "--to", "./zone", "--check-only", exit_code=1)


def test_in_a_folder_links_are_passed_over_and_names_that_are_not_utf8_are_one_line(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    (inside / "lap.csv").write_text("1")
    (inside / os.fsdecode(b"\xff.csv")).write_text("2")
    (tmp_path / "outside.csv").write_text("secret")
    (tmp_path / "further").mkdir()
    (tmp_path / "further/other.csv").write_text("secret, too")
    (inside / "link.csv").symlink_to(tmp_path / "outside.csv")
    (inside / "folder").symlink_to(tmp_path / "further")
    loader = _command(tmp_path)
    printed = loader("ingest", "in", "--to", "./zone", exit_code=1)
    assert "in: 2 links passed over, such as in/folder" in printed
    assert "\\xff.csv" in printed or "\\udcff.csv" in printed
    assert "is not UTF-8" in printed
    assert "Traceback" not in printed
    assert "1 stored, 1 failed" in printed or "1 failed, 1 stored" in printed
    assert "1 stored" in loader("ingest", "in/link.csv", "--to", "./zone")


def _command(folder: Path) -> Any:
    from cli import Loader

    return Loader(folder, {}).run


@pytest.mark.hbase
def test_hbase_keeps_the_records_of_files(hbase: LocalHBase, table_prefix: str, tmp_path: Path) -> None:
    loader = loader_of(hbase, tmp_path, "http://127.0.0.1:1", table_prefix)
    (tmp_path / "lap.csv").write_text("1,2")
    arguments = ("ingest", "lap.csv", "--to", "./zone", "--catalogue", "hbase", "--header", "SITE=größe")
    assert "1 stored" in loader.run(*arguments)
    assert "1 there already" in loader.run(*arguments)
    connector = HBaseConnector(find_gateways([(hbase.host, hbase.port)]))
    try:
        ((key, cells),) = connector.scan(f"{table_prefix}_f1_reports", b"file#")
    finally:
        connector.close()
    md5 = hashlib.md5(b"1,2").hexdigest()
    assert key == f"file#{md5}".encode()
    assert cells[b"meta:basename"] == b"lap.csv"
    assert json.loads(cells[b"meta:headers"]) == {"SITE": "größe"}
    assert (cells[b"stats:size"], cells[b"stats:version"]) == (b"3", b"1")
    assert not (tmp_path / "zone/_state").exists()
