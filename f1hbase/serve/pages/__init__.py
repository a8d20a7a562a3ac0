"""The web pages of `serve`: what is loaded, a session, telemetry, replay. They look; nothing here writes.

`mount` puts them into an application. Python gives columns of numbers as JSON (or binary, for places of cars); the
pages in `html/` and the modules in `static/` draw them. They ask no other host for anything.
"""

from f1hbase.serve.pages.app import PREFIX, mount
from f1hbase.serve.pages.shared import SharedStore

__all__ = ["PREFIX", "SharedStore", "mount"]
