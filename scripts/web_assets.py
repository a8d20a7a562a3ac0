"""Puts the charting library of the web pages, uPlot, into the package: what is built is what npm published.

Usage: python scripts/web_assets.py [TARBALL]

It is a build hook of hatchling as well, so `pip install .` and a wheel have the library without another step. The
registry is the one that npm is set up with; the tarball must have the published hash. Where there is no npm, fetch the
tarball elsewhere (`npm pack uplot@VERSION`) and name it. It needs nothing but Python's own library, and once the
files are there, no network.
"""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a script

    class BuildHookInterface:  # type: ignore[no-redef]
        """Stands in for hatchling's."""


PACKAGE = "uplot@1.6.32"
INTEGRITY = "sha512-KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw=="
"""The hash that npm publishes beside this version (`npm view uplot@1.6.32 dist.integrity`)."""

FILES = {
    "package/dist/uPlot.iife.min.js": "uPlot.iife.min.js",
    "package/dist/uPlot.min.css": "uPlot.min.css",
    "package/LICENSE": "uPlot.LICENSE.txt",
}
"""What is taken from the tarball, and under which name."""

VENDOR = Path(__file__).resolve().parent.parent / "f1hbase" / "serve" / "pages" / "static" / "vendor"

_STAMP = "VERSION"
_NPM = ["npm", "pack", "--silent", "--prefer-offline", "--fetch-retries=1", "--fetch-timeout=20000"]
_SECONDS = 90


class AssetsError(Exception):
    """The library cannot be had; the message says why and what to do."""


class WebAssetsHook(BuildHookInterface):  # type: ignore[type-arg,unused-ignore]
    """Fetches the library before the package is built; without it, the pages say so, and all else works."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fetch it, or warn."""
        try:
            provide()
        except AssetsError as error:
            self.app.display_warning(f"the web pages will have no charts: {error}")


def provide(tarball: Path | None = None, folder: Path = VENDOR) -> bool:
    """Put the library's files into a folder, unless they are there.

    Args:
        tarball: The file that `npm pack` makes; by default npm fetches it.
        folder: Where to.

    Returns:
        Whether there was something to do.

    Raises:
        AssetsError: If it cannot be fetched, or is not what was published.
    """
    stamp = folder / _STAMP
    if all((folder / name).is_file() for name in FILES.values()) and _text(stamp) == PACKAGE:
        return False
    content = _packed() if tarball is None else _read(tarball)
    algorithm, _, expected = INTEGRITY.partition("-")
    if base64.b64encode(hashlib.new(algorithm, content).digest()).decode() != expected:
        raise AssetsError(f"the tarball of {PACKAGE} is not the published one ({algorithm} differs)")
    folder.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member, name in FILES.items():
            file = archive.extractfile(member)
            if file is None:
                raise AssetsError(f"{member} is not in the tarball of {PACKAGE}")
            (folder / name).write_bytes(file.read())
    stamp.write_text(f"{PACKAGE}\n", encoding="utf-8")
    return True


def _packed() -> bytes:
    npm = shutil.which(_NPM[0])
    way_out = f"fetch it elsewhere with 'npm pack {PACKAGE}', then: python scripts/web_assets.py TARBALL"
    if npm is None:
        raise AssetsError(f"there is no npm to fetch {PACKAGE} with; {way_out}")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, *_NPM[1:], "--pack-destination", folder, PACKAGE]
        try:
            result = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=_SECONDS, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            raise AssetsError(f"npm did not fetch {PACKAGE} within {_SECONDS} s; {way_out}") from None
        packed = sorted(Path(folder).glob("*.tgz"))
        if result.returncode or not packed:
            reason = (result.stderr.strip().splitlines() or ["no reason given"])[0][:200]
            raise AssetsError(f"npm cannot fetch {PACKAGE} ({reason}); {way_out}")
        return packed[0].read_bytes()


def _read(tarball: Path) -> bytes:
    try:
        return tarball.read_bytes()
    except OSError as error:
        raise AssetsError(f"'{tarball}' cannot be read: {error.strerror}") from error


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def main(arguments: list[str]) -> int:
    """Run as a script; the exit code is 1 if the library cannot be had."""
    if len(arguments) > 1 or any(one.startswith("-") for one in arguments):
        sys.stderr.write("usage: python scripts/web_assets.py [TARBALL]\n")
        return 2
    try:
        fetched = provide(Path(arguments[0]) if arguments else None)
    except AssetsError as error:
        sys.stderr.write(f"web_assets.py: {error}\n")
        return 1
    if fetched:
        sys.stdout.write(f"{PACKAGE} is in {VENDOR}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
