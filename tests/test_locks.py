"""The lock files: each package has one version and hashes, and no host serves it by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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
