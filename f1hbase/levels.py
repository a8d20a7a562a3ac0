"""The log levels that f1hbase has beside Python's own; knows no handler and no format."""

from __future__ import annotations

import logging

STATS = 21
"""Totals of a run."""

PROGRESS = 22
"""How far long work is: a line a minute where there is no terminal."""

SUCCESS = 25
"""Something asked for is done in full."""

for _level, _name in ((STATS, "STATS"), (PROGRESS, "PROGRESS"), (SUCCESS, "SUCCESS")):
    logging.addLevelName(_level, _name)
