"""How the command line starts: without what a command does not need, as imports are most of what it takes to start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from cli import ENTRY_POINT

from f1hbase.cli.commands import cli
from f1hbase.stores.hbase.schema import MOST_REGIONS

_SLOW = {"aiohttp", "asyncio", "happybase", "multiprocessing", "psutil"}


@pytest.mark.parametrize(
    ("module", "needed"),
    [
        ("f1hbase.cli.commands", set[str]()),
        ("f1hbase.stores.hbase.codec", {"msgspec"}),
        ("f1hbase.operations.status", {"msgspec"}),
        # tenacity imports tornado and asyncio where tornado is installed, as it is for the test with a notebook.
        ("f1hbase.state.hbase.brief", {"happybase", "psutil", "msgspec", "asyncio"}),
    ],
)
def test_importing_a_part_does_not_import_what_others_need(module: str, needed: set[str]) -> None:
    code = f"import sys, {module}; print(*{_SLOW} & sys.modules.keys())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert set(found.split()) <= needed


def test_without_the_virtual_environment_one_line_says_how_to_make_it(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-S", str(ENTRY_POINT)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "is not installed for" in done.stderr
    assert "scripts/setup.sh" in done.stderr


def test_the_console_script_and_the_entry_point_are_the_same() -> None:
    code = "import f1hbase.cli, sys; sys.argv = ['f1hbase', '--version']; f1hbase.cli.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "version" in done.stdout


def test_the_help_says_how_many_regions_there_are_at_the_most_without_asking_the_schema() -> None:
    (option,) = (option for option in cli.commands["schema"].params if option.name == "regions")
    assert isinstance(option, click.Option)
    assert f"at most {MOST_REGIONS}]" in (option.help or "")
