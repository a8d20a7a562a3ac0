"""The documentation says what the code does: what is derived from it is current, and nothing is left out."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import click
import pytest

from f1hbase.cli.commands import cli
from f1hbase.model.catalog import ENDPOINTS

_ROOT = Path(__file__).resolve().parent.parent
_PAGES = sorted([_ROOT / "README.md", _ROOT / "SECURITY.md", *(_ROOT / "docs").glob("*.md")])


@pytest.fixture(scope="module")
def write_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_docs", _ROOT / "scripts" / "write_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_references_are_what_the_code_says(write_docs: ModuleType) -> None:
    fix = "run: .venv/bin/python scripts/write_docs.py"
    assert (_ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == write_docs.cli_reference(), fix
    assert (_ROOT / "docs" / "tables.md").read_text(encoding="utf-8") == write_docs.tables_reference(), fix


def test_every_command_and_option_is_in_the_reference() -> None:
    reference = (_ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    readme = (_ROOT / "README.md").read_text(encoding="utf-8")
    for name, command in cli.commands.items():
        assert f"## f1hbase {name}\n" in reference
        assert f"| `{name}` |" in readme
        for option in (parameter for parameter in command.params if isinstance(parameter, click.Option)):
            for flag in option.opts:
                assert re.search(rf"{re.escape(flag)}\b", reference), f"{name} {flag}"


def test_every_endpoint_and_field_is_in_the_reference() -> None:
    reference = (_ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
    for endpoint in ENDPOINTS.values():
        assert f"| `{endpoint.name}` | `{endpoint.family}` |" in reference
        for field in set(endpoint.fields) - {"meeting_key", "session_key", *endpoint.key_fields}:
            assert f"`{endpoint.family}:{field}`" in reference


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_commands_shown_have_only_options_that_exist(page: Path) -> None:
    known = {flag for command in cli.commands.values() for parameter in command.params for flag in parameter.opts}
    known |= {"--help", "--version"}
    for line in page.read_text(encoding="utf-8").splitlines():
        shown = re.search(r"(hbase_populate_openF1\.py|(?<!scripts/)\bf1hbase) ((?:load|plan|status|verify|-).*)", line)
        if shown and "|" not in line:
            for flag in re.findall(r"(?<!\S)--[a-z][a-z-]*", shown[2].partition("#")[0]):
                assert flag in known, line


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_scans_shown_backwards_begin_at_their_end(page: Path) -> None:
    """With a prefix, a reversed scan of HBase begins at the prefix and so finds nothing."""
    for scan in re.findall(r"scan '[^\n]*REVERSED[^\n]*", page.read_text(encoding="utf-8")):
        assert "ROWPREFIXFILTER" not in scan, scan
        begins, ends = re.findall(r"(?:STARTROW|STOPROW) => '([^']*)'", scan)
        assert begins > ends, scan


@pytest.mark.parametrize("path", [*_PAGES, *(_ROOT / "scripts" / "emr").glob("*.sh")], ids=lambda path: path.name)
def test_commands_shown_for_one_cluster_name_it(path: Path) -> None:
    for command in re.findall(r"aws emr modify-cluster[^\n]*", path.read_text(encoding="utf-8")):
        assert "--cluster-id " in command, command
