"""What waits to be stored: in order, bounded in memory, and not lost with the process."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from f1hbase.pipeline.live.backlog import Backlog


def _drained(backlog: Backlog, most: int = 100) -> list[bytes]:
    found: list[bytes] = []
    while items := backlog.take(most, 0.0):
        found += items
        backlog.done()
    return found


@given(items=st.lists(st.binary(min_size=1, max_size=60), max_size=60), pauses=st.sets(st.integers(0, 60)))
def test_all_comes_out_in_order_whatever_the_memory(
    tmp_path_factory: object, items: list[bytes], pauses: set[int]
) -> None:
    backlog = Backlog(tmp_path_factory.mktemp("spool") / "x.spool", memory=150)  # type: ignore[attr-defined]
    found: list[bytes] = []
    for number, item in enumerate(items):
        backlog.put(item)
        if number in pauses:
            found += backlog.take(100, 0.0)
            backlog.done()
    found += _drained(backlog)
    backlog.close()

    assert found == items


def test_memory_is_bounded_and_the_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "live" / "x.spool"
    backlog = Backlog(path, memory=10_000)
    for _ in range(1_000):
        backlog.put(b"x" * 100)

    assert backlog.waiting_bytes - backlog.disk_bytes <= 10_000
    assert backlog.disk_bytes > 80_000
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert len(_drained(backlog, 5_000)) == 1_000
    assert path.stat().st_size < 100  # nothing is left of it
    backlog.close()
    assert not path.exists()


def test_what_is_not_stored_is_there_for_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "x.spool"
    first = Backlog(path, memory=300)
    items = [f"{number:09d}".encode() * 10 for number in range(20)]
    for item in items:
        first.put(item)
    assert first.take(250, 0.0) == items[:3]
    first.done()
    assert first.take(100, 0.0) == items[3:5]  # taken, and not stored
    first.close()

    second = Backlog(path, memory=300)
    assert _drained(second) == items[3:]
    second.close()


def test_a_kill_leaves_what_was_on_disk_but_for_a_cut_off_end(tmp_path: Path) -> None:
    path = tmp_path / "x.spool"
    killed = Backlog(path, memory=1)
    for number in range(10):
        killed.put(b"%03d" % number)
    assert killed.take(4, 0.0) == [b"000", b"001"]
    killed.done()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 2)

    assert _drained(Backlog(path, memory=1)) == [b"%03d" % number for number in range(2, 9)]


def test_what_is_no_spool_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "x.spool"
    path.write_bytes(b"something else, and longer than a header")
    backlog = Backlog(path, memory=1)
    backlog.put(b"item")
    assert _drained(backlog) == [b"item"]


def test_a_folder_that_cannot_be_written_leaves_the_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    backlog = Backlog(tmp_path / "file" / "x.spool", memory=10)
    for _ in range(5):
        backlog.put(b"0123456789")
    assert len(_drained(backlog)) == 5
    assert backlog.given_up == 0


def test_who_puts_never_waits_for_who_takes(tmp_path: Path) -> None:
    backlog = Backlog(tmp_path / "x.spool", memory=1_000)
    found: list[bytes] = []

    def take() -> None:
        while len(found) < 3_000:
            found.extend(backlog.take(500, 1.0))
            backlog.done()

    thread = threading.Thread(target=take)
    thread.start()
    for number in range(3_000):
        backlog.put(b"%04d" % number)
    thread.join(30)
    assert found == [b"%04d" % number for number in range(3_000)]
