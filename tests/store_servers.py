"""Servers that stand in for object stores: moto for S3, fake-gcs-server, built by Go, and Azurite, from npm.

Each of the latter two is fetched once into `~/.cache/f1hbase/tests` by its ordinary client; a test that needs one is
skipped, with the reason, where that cannot be.
"""

from __future__ import annotations

import base64
import email.utils
import hashlib
import hmac
import os
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest
from hbase_server import free_ports
from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer
from threaded_http import listening

FAKE_GCS = "github.com/fsouza/fake-gcs-server@v1.56.1"
AZURITE = "azurite@3.35.0"

AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""What every emulator of Azure's storage takes; published by its maker."""

_FETCH_SECONDS = 280
_START_SECONDS = 30
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "f1hbase" / "tests"


def _fetched(path: Path, command: list[str], environment: Mapping[str, str]) -> Path:
    """Return a program that a package manager installs; skip the test where it cannot."""
    if path.exists():
        return path
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]}, which would fetch {path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        result = subprocess.run(
            command, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=_FETCH_SECONDS
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"{command[0]} did not fetch {path.name} within {_FETCH_SECONDS} s")
    if result.returncode or not path.exists():
        last = (result.stderr.strip() or result.stdout.strip()).splitlines()[-1:]
        pytest.skip(f"{command[0]} cannot fetch {path.name}: {''.join(last)[:200]}")
    return path


def fetch_fake_gcs() -> Path:
    """Return fake-gcs-server, built by Go (90 s of processor time) unless it is there."""
    return _fetched(_CACHE / "go" / "fake-gcs-server", ["go", "install", FAKE_GCS], {"GOBIN": str(_CACHE / "go")})


def fetch_azurite() -> Path:
    """Return Azurite's blob server, installed by npm unless it is there."""
    packages = _CACHE / "npm"
    npm = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(packages), AZURITE]
    return _fetched(packages / "node_modules" / ".bin" / "azurite-blob", npm, {})


@contextmanager
def _running(command: list[str], port: int, folder: Path) -> Iterator[None]:
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((folder / "server.log").read_text(errors="replace"))
                time.sleep(0.05)
            yield
        finally:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@contextmanager
def azurite(folder: Path, container: str) -> Iterator[dict[str, str]]:
    """Run Azurite with a container; yield the environment in which the client finds it."""
    program = fetch_azurite()
    (port,) = free_ports(1)
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence", "--silent"]
    with _running([str(program), *options, "--skipApiVersionCheck", "--disableTelemetry"], port, folder):
        url = f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}"
        _create_container(url, container)
        yield {
            "AZURE_STORAGE_ACCOUNT_NAME": AZURE_ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": AZURE_KEY,
            "AZURE_STORAGE_ENDPOINT": url,
        }


def _create_container(url: str, name: str) -> None:
    headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    named = "".join(f"{key}:{value}\n" for key, value in headers.items())
    text = "PUT" + "\n" * 12 + f"{named}/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/{name}\nrestype:container"
    signed = base64.b64encode(hmac.new(base64.b64decode(AZURE_KEY), text.encode(), hashlib.sha256).digest()).decode()
    headers |= {"Authorization": f"SharedKey {AZURE_ACCOUNT}:{signed}", "Content-Length": "0"}
    request = urllib.request.Request(f"{url}/{name}?restype=container", method="PUT", headers=headers)
    urllib.request.urlopen(request).close()


@contextmanager
def fake_gcs(folder: Path, bucket: str) -> Iterator[dict[str, str]]:
    """Run fake-gcs-server with a bucket; yield the environment in which the client finds it."""
    program = fetch_fake_gcs()
    (port,) = free_ports(1)
    options = ["-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(port)]
    with _running([str(program), *options, "-public-host", f"127.0.0.1:{port}"], port, folder):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/storage/v1/b?project=f1", f'{{"name":"{bucket}"}}'.encode(),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        urllib.request.urlopen(request).close()
        with _xml_uploads(f"http://127.0.0.1:{port}") as url:
            yield {"STORAGE_EMULATOR_HOST": url}


@contextmanager
def _xml_uploads(server: str) -> Iterator[str]:
    """Serve the XML API's uploads over fake-gcs-server, which takes those of the JSON API alone; hand on all else."""

    class Handler(_XmlUploads):
        upstream = server
        parts: dict[str, dict[int, bytes]] = {}  # noqa: RUF012 - one for each server

    with listening(Handler) as url:
        yield url


class _XmlUploads(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: str
    parts: dict[str, dict[int, bytes]]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep quiet."""

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urlsplit(self.path)
        query = parse_qs(address.query, keep_blank_values=True)
        bucket, _, name = address.path.lstrip("/").partition("/")
        upload = query.get("uploadId", [""])[0]
        if self.command == "POST" and "uploads" in query:
            self.parts[name] = {}
            begun = f"<UploadId>{escape(name)}</UploadId>"
            self._answer(200, f"<InitiateMultipartUploadResult>{begun}</InitiateMultipartUploadResult>")
        elif self.command == "PUT" and upload:
            self.parts[upload][int(query["partNumber"][0])] = body
            self._answer(200, "", {"ETag": f'"{query["partNumber"][0]}"'})
        elif self.command == "DELETE" and upload:
            self.parts.pop(upload, None)
            self._answer(204, "")
        elif self.command == "POST" and upload:
            parts = self.parts.pop(upload)
            self._upload(bucket, name, b"".join(parts[number] for number in sorted(parts)), is_multipart=True)
        elif self.command == "PUT":
            self._upload(bucket, name, body)
        else:
            self._forward(f"{self.upstream}{self.path}", body or None, self.command)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _any  # noqa: N815

    def _upload(self, bucket: str, name: str, body: bytes, *, is_multipart: bool = False) -> None:
        url = f"{self.upstream}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(unquote(name), safe='')}"
        if "x-goog-if-generation-match" in self.headers:
            url += f"&ifGenerationMatch={self.headers['x-goog-if-generation-match']}"
        status, _, headers = self._ask(url, body, "POST")
        tag = {"ETag": headers.get("ETag") or f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'}
        whole = "<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>"
        missing = "<Error><Code>NoSuchBucket</Code></Error>" if status == 404 else ""
        self._answer(status, missing or (whole if is_multipart else ""), tag)

    def _forward(self, url: str, body: bytes | None, method: str) -> None:
        status, content, headers = self._ask(url, body, method)
        left_out = ("transfer-encoding", "connection", "content-length")
        kept = {name: value for name, value in headers.items() if name.lower() not in left_out}
        size = int(headers.get("Content-Length") or 0) if method == "HEAD" else None
        self._answer(status, content, kept, size)

    def _ask(self, url: str, body: bytes | None, method: str) -> tuple[int, bytes, dict[str, str]]:
        names = ("range", "content-type")
        headers = {name: value for name, value in self.headers.items() if name.lower() in names}
        request = urllib.request.Request(url, body, headers, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.read(), dict(answer.headers.items())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), dict(error.headers.items())

    def _answer(
        self, status: int, content: str | bytes, headers: Mapping[str, str] | None = None, size: int | None = None
    ) -> None:
        body = content if isinstance(content, bytes) else content.encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if size is None else size))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


if __name__ == "__main__":
    # `python tests/store_servers.py` fetches both beforehand, so that no test waits for it.
    for fetch in (fetch_fake_gcs, fetch_azurite):
        with suppress(pytest.skip.Exception):
            fetch()


@contextmanager
def moto_s3() -> Iterator[str]:
    """Run moto's S3 in this process; yield its address.

    moto looks whether there is an object and then writes it, in one thread a request: of two creations
    (`If-None-Match`) at the same time both may succeed. S3 lets one succeed, and so does this.
    """
    one_at_a_time, put_object = threading.Lock(), S3Response.put_object

    def put_atomically(response: S3Response) -> Any:
        with one_at_a_time:
            return put_object(response)

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(S3Response, "put_object", put_atomically)
        server.start()
        host, port = server.get_host_and_port()
        try:
            yield f"http://{host}:{port}"
        finally:
            server.stop()
