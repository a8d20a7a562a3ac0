"""A real Chromium for tests, driven by Playwright: Debian's, or whichever is on PATH.

`python tests/browser.py` installs Debian's headless one where that may be (as root, with apt); a test that needs one is
skipped, with the reason, where there is none. F1HBASE_TEST_CHROMIUM names another.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_NAMES = (
    "chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome",
)  # fmt: skip
_PACKAGES = ("chromium-headless-shell", "chromium")
_APT = ["apt-get", "-qq", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20"]
_FONTS = "fonts-dejavu-core"
_SECONDS = 400


def find_chromium() -> str | None:
    """Return the program; None if there is none."""
    named = os.environ.get("F1HBASE_TEST_CHROMIUM")
    if named:
        return named
    return next(filter(None, map(shutil.which, _NAMES)), None)


def chromium() -> str:
    """Return the program; skip the test where there is none."""
    found = find_chromium()
    if found is None:
        pytest.skip("there is no Chromium: apt-get install chromium, or name one with F1HBASE_TEST_CHROMIUM")
    return found


@contextmanager
def launched() -> Iterator[object]:
    """Run Chromium; yields Playwright's browser. Whoever uses it needs no display, and no network but loopback."""
    program = chromium()
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        # The sandbox needs rights that a container may not give; the pages are our own.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


def install() -> str:
    """Install Debian's, unless there is one; return what became of it, for people."""
    found = find_chromium()
    if found is not None:
        return f"Chromium is {found}"
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return "no Chromium, and this is no place to install it: the tests of the pages will be skipped"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        subprocess.run(
            [*_APT, "update"], check=False, timeout=_SECONDS, env=environment, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for package in _PACKAGES:
            command = [*_APT, "install", "-y", "--no-install-recommends", package, _FONTS]
            result = subprocess.run(
                command, check=False, timeout=_SECONDS, env=environment, stdout=subprocess.DEVNULL, text=True,
                stderr=subprocess.PIPE,
            )  # fmt: skip
            if result.returncode == 0:
                return f"installed {package}"
    except subprocess.TimeoutExpired:
        return f"apt-get did not install Chromium within {_SECONDS} s: the tests of the pages will be skipped"
    reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1][:200]
    return f"apt-get cannot install Chromium ({reason}): the tests of the pages will be skipped"


if __name__ == "__main__":
    sys.stdout.write(f"browser.py: {install()}\n")
