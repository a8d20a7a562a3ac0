"""Writes what f1hbase is made of, as its lock says, in CycloneDX's form (https://cyclonedx.org, 1.6).

python scripts/sbom.py [-o f1hbase.cdx.json] [--lock requirements.lock]

Each package of the lock with its version and the hashes of its files, and who needs whom. The same lock and version
give the same file. It needs no network and no package.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_ENTRY = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[^]]*\])?==(?P<version>[^\s;\\]+)\s*(;\s*(?P<marker>[^\\\n]+))?")
_NAMESPACE = uuid.UUID("6f1b0f0a-9d0e-5c58-8d0e-3d6d3f1b4a52")


@dataclass
class Package:
    """One entry of a lock.

    Attributes:
        name: As PyPI normalises it.
        version: Its only version.
        marker: Where it is installed at all; empty for everywhere.
        hashes: SHA-256 of each of its files, in hex.
        needed_by: The names of the packages that need it.
        is_direct: Whether f1hbase itself does.
    """

    name: str
    version: str
    marker: str
    hashes: list[str]
    needed_by: list[str] = field(default_factory=list)
    is_direct: bool = False

    @property
    def purl(self) -> str:
        """Its package URL."""
        return f"pkg:pypi/{self.name}@{self.version.replace('+', '%2B')}"


def normal(name: str) -> str:
    """Return a package's name as PyPI normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def packages(lock: str) -> Iterator[Package]:
    """Yield the packages of a lock file.

    Raises:
        ValueError: If an entry has no version or no hash.
    """
    for entry in re.split(r"\n(?=[A-Za-z0-9])", lock.strip()):
        match = _ENTRY.match(entry)
        hashes = re.findall(r"--hash=sha256:([0-9a-f]{64})\b", entry)
        if not match or not hashes:
            raise ValueError(f"an entry without version or hash: {entry[:80]!r}")
        _, _, via = entry.partition("# via")
        reasons = [line.strip("# ") for line in via.splitlines() if line.strip("# ")]
        by = [normal(reason) for reason in reasons if re.fullmatch(r"[A-Za-z0-9._-]+", reason)]
        direct = any("pyproject.toml" in reason for reason in reasons)
        marker = (match["marker"] or "").strip()
        yield Package(normal(match["name"]), match["version"], marker, hashes, by, direct)


def bill(lock: str, version: str) -> dict[str, Any]:
    """Return the document for a lock and a version of f1hbase."""
    found = sorted(packages(lock), key=lambda package: (package.name, package.version))
    own = f"pkg:pypi/f1hbase@{version}"
    by_name: dict[str, list[Package]] = {}
    for package in found:
        by_name.setdefault(package.name, []).append(package)
    needs: dict[str, set[str]] = {ref: set() for ref in (own, *(package.purl for package in found))}
    for package in found:
        if package.is_direct:
            needs[own].add(package.purl)
        for other in package.needed_by:
            for one in by_name.get(other, ()):
                needs[one.purl].add(package.purl)
    content = json.dumps([version, [[package.purl, *package.hashes] for package in found]])
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, content)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": "f1hbase",
                "version": version,
                "licenses": [{"license": {"id": "MIT"}}],
                "purl": own,
            }
        },
        "components": [_component(package) for package in found],
        "dependencies": [{"ref": ref, "dependsOn": sorted(others)} for ref, others in needs.items()],
    }


def _component(package: Package) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": package.purl,
        "name": package.name,
        "version": package.version,
        "hashes": [{"alg": "SHA-256", "content": digest} for digest in package.hashes],
        "purl": package.purl,
    }
    if package.marker:
        component["properties"] = [{"name": "f1hbase:marker", "value": package.marker}]
    return component


def own_version() -> str:
    """Return the version of f1hbase, without importing it."""
    found = re.search(r'__version__ = "([^"]+)"', (ROOT / "f1hbase" / "version.py").read_text(encoding="utf-8"))
    assert found, "f1hbase/version.py has no version"
    return found[1]


def main() -> int:
    """Write the document, or print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, help="where to write it; by default it is printed")
    parser.add_argument("--lock", type=Path, default=ROOT / "requirements.lock", help="the lock (%(default)s)")
    wanted = parser.parse_args()
    text = json.dumps(bill(wanted.lock.read_text(encoding="utf-8"), own_version()), indent=1) + "\n"
    if wanted.output is None:
        sys.stdout.write(text)
    else:
        wanted.output.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
