"""Hostile cases by seed, and each seed that once found something; `python -m tests.hostile` runs any number of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hostile.cases import KINDS, case_of
from hostile.found import FOUND, SLOW
from hostile.running import complaints

_SEEDS = (*sorted(set(FOUND) - SLOW), *range(1, 12), *range(3000, 3010))
_QUIET_PROCESSES = 2


def test_a_seed_always_makes_the_same_case() -> None:
    for seed in range(50):
        one, other = case_of(seed), case_of(seed)
        assert (one.name, one.arguments, one.environment) == (other.name, other.arguments, other.environment)


def test_every_kind_is_chosen() -> None:
    assert {case_of(seed).name.partition(":")[0] for seed in range(3000, 3150)} == set(KINDS)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[str]]:
    """Return what did not hold of each seed; they run two at a time, as most of it is waiting."""
    folder = tmp_path_factory.mktemp("hostile")
    with ThreadPoolExecutor(_QUIET_PROCESSES) as threads:
        results = threads.map(lambda seed: complaints(case_of(seed), folder / str(seed)), _SEEDS)
        return dict(zip(_SEEDS, results, strict=True))


@pytest.mark.parametrize("seed", _SEEDS)
def test_nothing_from_outside_hurts(found: dict[int, list[str]], seed: int) -> None:
    assert not found[seed], case_of(seed).name
