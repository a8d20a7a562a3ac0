"""The lock files: each package has one version and hashes, and no host serves it by name."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from f1hbase.version import __version__

_ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_each_package_has_one_version_and_hashes(lock: str) -> None:
    entries = re.split(r"\n(?=[A-Za-z0-9])", (_ROOT / lock).read_text(encoding="utf-8").strip())
    assert len(entries) > 20
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z0-9,_-]+\])?==\S+", entry), entry[:100]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry[:100]
        assert "://" not in re.sub(r"#.*", "", entry), entry[:100]


def test_the_environment_is_made_of_what_has_a_hash() -> None:
    assert "--require-hashes" in (_ROOT / "scripts/setup.sh").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def bill() -> dict[str, Any]:
    """Return what `scripts/sbom.py` writes."""
    script = subprocess.run(
        [sys.executable, "-I", _ROOT / "scripts/sbom.py"], check=True, capture_output=True, text=True
    )
    document: dict[str, Any] = json.loads(script.stdout)
    return document


def test_the_bill_of_materials_has_each_locked_package_with_its_version_and_all_its_hashes(
    bill: dict[str, Any],
) -> None:
    lines = (_ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    locked: dict[str, set[str]] = {}
    for line in lines:
        if found := re.match(r"([a-z0-9._-]+)==(\S+)", line):
            name = f"pkg:pypi/{found[1].replace('_', '-').replace('.', '-')}@{found[2]}"
            locked[name] = set()
        locked[name].update(re.findall(r"sha256:([0-9a-f]{64})", line))
    listed = {one["purl"]: {digest["content"] for digest in one["hashes"]} for one in bill["components"]}
    assert listed == locked
    assert all(one["purl"] == f"pkg:pypi/{one['name']}@{one['version']}" for one in bill["components"])


def test_the_bill_of_materials_names_who_needs_whom_and_nobody_who_is_not_there(bill: dict[str, Any]) -> None:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needs = {one["ref"]: one["dependsOn"] for one in bill["dependencies"]}
    own = bill["metadata"]["component"]["bom-ref"]
    assert own == f"pkg:pypi/f1hbase@{__version__}"
    direct = {re.split(r"[^a-z0-9-]", name, maxsplit=1)[0] for name in project["dependencies"]}
    assert direct <= {ref.removeprefix("pkg:pypi/").partition("@")[0] for ref in needs[own]}
    known = {one["bom-ref"] for one in bill["components"]}
    assert set(needs) == {own, *known}
    reached, waiting = set[str](), [own]
    while waiting:
        reached.add(ref := waiting.pop())
        waiting += set(needs[ref]) - reached
    assert reached == {own, *known}, "each is needed by something that f1hbase needs"
