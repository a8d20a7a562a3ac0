"""Which folder or bucket a text such as `s3://bucket/prefix` means; opens nothing.

>>> parse_location("s3://races/openf1/").shown
's3://races/openf1'
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from f1hbase.errors import F1HBaseError

BUCKET_SCHEMES = ("s3", "gs", "az")
"""The object stores, each with the name of a bucket (or container) and a prefix in it."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
"""Of two letters at least: `C:` is a drive."""

BUCKET_VARIABLE = "BUCKET"
"""What names the bucket of an s3:/// URL without one."""

_VOLUMES = "/Volumes/"

KNOWN_PLACES = {
    "local": "~/Documents/openf1_data_analytics/local_test_data/",
    "databricks": "/Volumes/dev_f1_data_analytics/raw_data/landing/",
}
"""Places with names of their own, in which JSON files are landed for Databricks."""


class LocationError(F1HBaseError):
    """A text that names no place where files can be kept, or a place that is not what it should be."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Location:
    """A place of files; without secrets, so it may be shown, logged and sent to another process.

    Attributes:
        scheme: `file`, `s3`, `gs`, `az`, or `volume` for a volume of Databricks that is not mounted here.
        root: The absolute path of a folder or volume, or the name of a bucket or container.
        prefix: What the names of all objects in the bucket begin with, without slashes at its ends; empty for a folder.
        shown: For people.
    """

    scheme: str
    root: str
    prefix: str
    shown: str

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return self.scheme == "file"

    def __str__(self) -> str:
        return self.shown


def parse_location(text: str) -> Location:
    """Return what a path or URL means.

    Args:
        text: `./folder`, an absolute path, `file:///folder`, `s3://bucket/prefix`, `gs://bucket/prefix`,
            `az://container/prefix`, `/Volumes/catalog/schema/volume/...`, `local` or `databricks`.

    Raises:
        LocationError: If it is neither, or if there are credentials in it; the message does not repeat those.
    """
    text = KNOWN_PLACES.get(text, text)
    match = _SCHEME.match(text)
    if match is None:
        return _folder(Path(text), text)
    scheme = match[1].lower()
    if scheme not in (*BUCKET_SCHEMES, "file"):
        raise LocationError(
            f"'{scheme}:' is no store that f1hbase knows. Use a folder, file://, s3://, gs:// or az:// "
            "(and ./ before the name of a folder with a colon in it)."
        )
    parts = urlsplit(text)
    if "@" in parts.netloc or parts.query:
        raise LocationError(
            f"credentials do not belong into a {scheme}:// URL, where histories and logs would keep them. Give them by "
            f"the store's own ways ({_WAYS[scheme]}), and the URL without '@' and '?'."
        )
    if parts.fragment:
        raise LocationError(f"'#' cannot be in a {scheme}:// URL.")
    if scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise LocationError(f"'{text}' names a host; a folder of this machine has three slashes: file:///folder.")
        return _folder(Path(unquote(parts.path)), text)
    bucket = parts.netloc or (os.environ.get(BUCKET_VARIABLE, "") if scheme == "s3" else "")
    if not bucket or not re.fullmatch(r"[A-Za-z0-9._-]+", bucket):
        hint = f", or s3:///prefix with the bucket in {BUCKET_VARIABLE}" if scheme == "s3" else ""
        raise LocationError(f"'{text}' names no bucket: {scheme}://bucket/prefix{hint}.")
    prefix = "/".join(part for part in parts.path.split("/") if part)
    if ".." in prefix.split("/"):
        raise LocationError(f"'..' cannot be in a {scheme}:// URL.")
    return Location(scheme, bucket, prefix, f"{scheme}://{bucket}" + (f"/{prefix}" if prefix else ""))


def _folder(path: Path, shown: str) -> Location:
    if not shown or "\0" in shown:
        raise LocationError("a folder needs a name; the one you are in is '.'.")
    try:
        absolute = path.expanduser().absolute()
    except RuntimeError as error:
        raise LocationError(f"'{shown}' names no folder: {error}.") from error
    if str(absolute).startswith(_VOLUMES) and not Path(_VOLUMES).is_dir():
        # Elsewhere than inside Databricks.
        parts = [part for part in str(absolute).split("/") if part]
        if len(parts) < 4 or ".." in parts:
            raise LocationError(f"'{shown}' names no volume: {_VOLUMES}catalog/schema/volume/folder.")
        root = "/" + "/".join(parts)
        return Location("volume", root, "", root)
    return Location("file", str(absolute), "", shown.rstrip("/") or shown)


_WAYS = {
    "s3": "AWS_ACCESS_KEY_ID, a profile or the machine's role",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    "file": "none are needed",
}
