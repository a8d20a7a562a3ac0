"""Texts for people."""

from __future__ import annotations

import pytest

from f1hbase.model.text import count, safe


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1_234_567, "1,234,567 rows")]
)
def test_one_of_a_thing_is_not_several(number: int, text: str) -> None:
    assert count(number, "row") == text


@pytest.mark.parametrize(
    "character", ["\x1b", "\n", "\x9b", "\u2028", "\u202e", "\u200b", "\u2060", "\xad", "\ud800", "\U000e0041"]
)
def test_what_commands_a_terminal_or_is_not_seen_is_written_out(character: str) -> None:
    assert safe(f"a{character}b") == f"a{character.encode('unicode_escape').decode()}b"


def test_names_of_people_and_flags_stay_as_they_are() -> None:
    for text in ("Sergio Pérez", "周冠宇", "🏴‍☠️", "Kimi Räikkönen"):
        assert safe(text) == text
