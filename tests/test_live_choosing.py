"""Which session `live` records, and under which name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from samples import sample

from f1hbase.errors import NothingToLoadError, SetupError
from f1hbase.model.answers import Listing
from f1hbase.model.plans import Selection
from f1hbase.pipeline.live.choosing import choose, instance_name, mark_over, sessions_over
from f1hbase.pipeline.live.figures import Latencies

_NOW = datetime(2026, 7, 4, 12, 0, tzinfo=UTC)


def _session(key: int, hours: float, **changes: Any) -> dict[str, Any]:
    """Return a session of an hour that begins in so many hours."""
    start = _NOW + timedelta(hours=hours)
    times = {"date_start": start.isoformat(), "date_end": (start + timedelta(hours=1)).isoformat()}
    return sample("sessions", session_key=key, year=2026, **(times | changes))


def _chosen(*sessions: dict[str, Any], over: frozenset[int] = frozenset(), **selection: Any) -> int | None:
    listing = Listing("livetiming", sessions, [sample("meetings", year=2026)], _NOW)
    return choose(listing, Selection(**selection), _NOW, over).scope.session_key


@pytest.mark.parametrize(
    ("sessions", "key"),
    [
        ([_session(1, -5), _session(2, -0.5), _session(3, 3)], 2),  # the one that is on
        ([_session(3, 30), _session(1, -5), _session(2, 3)], 2),  # the next one
        ([_session(1, -1.25), _session(2, 3)], 1),  # runs late
        ([_session(1, -1.75), _session(2, 3)], 2),
        ([_session(1, 1, is_cancelled=True), _session(2, 3)], 2),
        ([_session(1, 1, date_start=None), _session(2, 3)], 2),
    ],
)
def test_the_session_that_is_on_or_the_next_one_is_chosen(sessions: list[dict[str, Any]], key: int) -> None:
    assert _chosen(*sessions) == key


def test_one_that_was_recorded_to_its_end_is_not_chosen_again(tmp_path: Path) -> None:
    mark_over(tmp_path, 1)
    over = sessions_over(tmp_path)
    assert _chosen(_session(1, -1.25), _session(2, 3), over=over) == 2
    assert _chosen(_session(1, -1.25), _session(2, 3), over=over, session_key=(1,)) == 1


def test_a_key_names_any_session() -> None:
    assert _chosen(_session(1, -5000), _session(2, 3), session_key=(1,)) == 1
    assert _chosen(_session(1, 1, meeting_key=7), _session(2, 3, meeting_key=8), meeting_key=(8,)) == 2


def test_what_is_not_to_come_is_said() -> None:
    with pytest.raises(NothingToLoadError, match="no session is on or to come: the last one, session 1 "):
        _chosen(_session(1, -50))
    with pytest.raises(NothingToLoadError, match="does not have session 9"):
        _chosen(_session(1, 1), session_key=(9,))
    with pytest.raises(NothingToLoadError, match="does not have any session of this season"):
        _chosen()


def test_instances_of_a_machine_have_names_of_their_own(tmp_path: Path) -> None:
    with instance_name("", tmp_path) as first, instance_name("", tmp_path) as second:
        assert first.endswith("-1")
        assert second.endswith("-2")
    with instance_name("", tmp_path) as again:
        assert again == first
        with pytest.raises(SetupError, match="runs on this machine already"), instance_name(first, tmp_path):
            pass


def test_latencies_are_right_to_five_per_cent() -> None:
    latencies = Latencies()
    for number in range(1, 1001):
        latencies.add(number / 1000)
    assert latencies.percentile(50) == pytest.approx(0.5, rel=0.06)
    assert latencies.percentile(99) == pytest.approx(0.99, rel=0.06)
    assert Latencies().percentile(99) == 0.0
