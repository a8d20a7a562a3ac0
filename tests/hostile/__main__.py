"""Runs hostile cases by seed and prints those that did not hold.

python -m tests.hostile --cases 2000 --first-seed 1
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .cases import case_of
from .found import FOUND
from .running import FAKETIME, complaints


def _held(seed: int) -> tuple[int, str, list[str]]:
    case = case_of(seed)
    with tempfile.TemporaryDirectory(prefix="f1hbase-hostile-") as folder:
        return seed, case.name, complaints(case, Path(folder))


def main() -> int:
    """Run them, and return how many did not hold, at most 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=100, help="how many (%(default)s)")
    parser.add_argument("--first-seed", type=int, default=1, help="the seed of the first; each further one is one more")
    parser.add_argument("--at-once", type=int, default=2, help="how many at a time (%(default)s)")
    parser.add_argument("--found", action="store_true", help="those that once found something, instead")
    wanted = parser.parse_args()
    seeds = list(FOUND) if wanted.found else range(wanted.first_seed, wanted.first_seed + wanted.cases)
    if not FAKETIME.exists():
        print(f"cases with other clocks have the true one: there is no {FAKETIME} (libfaketime)")
    if os.geteuid() != 0:
        print("cases with disks of their own have a folder that cannot be written: only root can mount a tmpfs")
    kinds: Counter[str] = Counter()
    bad = 0
    with ThreadPoolExecutor(wanted.at_once) as threads:
        for seed, name, wrong in threads.map(_held, seeds):
            kinds[name.partition(":")[0]] += 1
            bad += bool(wrong)
            for one in wrong:
                print(f"seed {seed} ({name}): {one}", flush=True)
    print(f"{len(seeds) - bad} of {len(seeds)} held; " + ", ".join(f"{n} {kind}" for kind, n in kinds.most_common()))
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
