"""Texts for people."""

from __future__ import annotations

import pytest

from f1hbase.model.text import count


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1_234_567, "1,234,567 rows")]
)
def test_one_of_a_thing_is_not_several(number: int, text: str) -> None:
    assert count(number, "row") == text
