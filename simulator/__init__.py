"""Race weekends that never happened, in the shape of OpenF1's records.

The steps: a `track` and its lap profile, the `motion` of each car as pieces of profiles, the `sessions` that decide
who drives when, `timing` and `events` that follow from the motion, and the files that `season` writes of all that.
The same seed writes the same bytes, on every Python: floats are added with ``fsum``, since the rounding of ``sum``
changed in Python 3.12. People, teams and circuits are invented.
"""

from simulator.season import Plan, simulate

__all__ = ["Plan", "simulate"]
