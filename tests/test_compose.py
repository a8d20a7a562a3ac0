"""docker-compose.hbase.yml and its image: the HBase of scripts/local_hbase.sh, for this machine alone."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = ROOT / "docker-compose.hbase.yml"
DOCKERFILE = ROOT / "docker" / "hbase" / "Dockerfile"
SCRIPT = ROOT / "scripts" / "local_hbase.sh"
INSTALLED = "/opt/f1hbase/scripts/"
SETTING = r"LOCAL_HBASE_[A-Z_]+"


@dataclass
class Stage:
    """One FROM of the Dockerfile: its base image or stage, and its instructions with their arguments."""

    base: str
    steps: list[tuple[str, str]]

    def all(self, word: str) -> list[str]:
        return [arguments for name, arguments in self.steps if name == word]

    def only(self, word: str) -> str:
        (arguments,) = self.all(word)
        return arguments


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return content


@pytest.fixture(scope="module")
def service(compose: dict[str, Any]) -> dict[str, Any]:
    (service,) = compose["services"].values()
    assert isinstance(service, dict)
    return service


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    lines = [line for line in DOCKERFILE.read_text().splitlines() if line and not line.startswith("#")]
    stages: list[Stage] = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, arguments = line.split(maxsplit=1)
        if word == "FROM":
            stages.append(Stage(arguments.split()[0], []))
        else:
            stages[-1].steps.append((word, arguments))
    return stages


@pytest.fixture(scope="module")
def image(stages: list[Stage]) -> Stage:
    return stages[-1]


@pytest.fixture(scope="module")
def environment(image: Stage) -> dict[str, str]:
    """What the image itself sets."""
    return dict(pair.split("=", 1) for pair in shlex.split(image.only("ENV")))


def names_that_the_script_knows() -> set[str]:
    usage = subprocess.run([str(SCRIPT), "--help"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(SETTING, usage))


def test_it_builds_the_image_from_the_root_of_the_repository(service: dict[str, Any]) -> None:
    assert service["build"] == {"context": ".", "dockerfile": str(DOCKERFILE.relative_to(ROOT))}


def test_ports_are_published_on_the_loopback_address_alone(
    service: dict[str, Any], environment: dict[str, str]
) -> None:
    ports = [re.fullmatch(r"127\.0\.0\.1:\$\{(\w+):-\d+}:(\d+)", port) for port in service["ports"]]
    published = {port[1]: port[2] for port in ports if port}

    assert all(ports)
    assert published == {"LOCAL_HBASE_THRIFT_PORT": "9090", "LOCAL_HBASE_UI_PORT": environment["LOCAL_HBASE_UI_PORT"]}
    # Those in the container are fixed: what changes the host's must not reach the script.
    assert not published.keys() & service["environment"].keys()
    assert "network_mode" not in service


def test_what_is_published_listens_beyond_the_containers_own_loopback_address(
    image: Stage, environment: dict[str, str]
) -> None:
    assert environment["LOCAL_HBASE_THRIFT_ADDRESS"] == environment["LOCAL_HBASE_UI_ADDRESS"] == "0.0.0.0"
    assert image.only("EXPOSE").split() == ["9090", environment["LOCAL_HBASE_UI_PORT"]]


def test_the_data_are_in_a_named_volume_that_hbase_may_write_to(
    compose: dict[str, Any], service: dict[str, Any], image: Stage, environment: dict[str, str]
) -> None:
    (name,) = compose["volumes"]
    folder = environment["LOCAL_HBASE_DIR"]

    assert service["volumes"] == [f"{name}:{folder}"]
    user = image.only("USER")
    assert user not in {"root", "0"}
    (made,) = image.all("RUN")
    assert f"--owner={user} --group={user} {folder}" in made


def test_settings_are_those_of_the_script_with_its_defaults(service: dict[str, Any]) -> None:
    used = set(re.findall(SETTING, COMPOSE.read_text() + DOCKERFILE.read_text()))
    assert used <= names_that_the_script_knows()

    script = SCRIPT.read_text()
    assert {"LOCAL_HBASE_HEAP", "LOCAL_HBASE_GATEWAY_HEAP"} <= service["environment"].keys()
    for name, value in service["environment"].items():
        assert value.startswith(f"${{{name}:-")
        assert f"{name}={value}\n" in script


def test_health_is_what_the_scripts_status_says(service: dict[str, Any], image: Stage) -> None:
    check = service["healthcheck"]

    assert check["test"] == ["CMD", INSTALLED + "local_hbase.sh", "status"]
    assert {"interval", "timeout", "retries"} <= check.keys()
    timeout = service["environment"]["LOCAL_HBASE_START_TIMEOUT"].removesuffix("}").rpartition("-")[2]
    assert check["start_period"] == f"{timeout}s"
    assert f"scripts/local_hbase.sh {INSTALLED}" in image.all("COPY")


def test_signals_reach_the_script_and_a_stop_may_take_as_long_as_it_needs(
    service: dict[str, Any], image: Stage
) -> None:
    # In exec form, or a shell would be asked to end instead.
    assert json.loads(image.only("CMD")) == [INSTALLED + "local_hbase.sh", "serve"]
    assert "command" not in service
    assert service["restart"] == "unless-stopped"
    stop = re.search(r"^stop\(\) \{.*?^}", SCRIPT.read_text(), re.MULTILINE | re.DOTALL)
    assert stop is not None
    needed = sum(int(seconds) for seconds in re.findall(r"\bhalt \w+ (\d+)", stop[0]))
    assert needed > 0
    assert int(service["stop_grace_period"].removesuffix("m")) * 60 > needed


def test_what_is_copied_is_there_and_not_ignored(stages: list[Stage]) -> None:
    ignored = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    everything, *exceptions = [line for line in ignored if line and not line.startswith("#")]
    assert everything == "*"

    copied = [c.split() for stage in stages for c in stage.all("COPY") if not c.startswith("--from=")]
    assert {f"!{source}" for source, _ in copied} == set(exceptions)
    for source, target in copied:
        assert (ROOT / source).exists()
        # What a script finds beside itself in the repository, it finds there in the image, too.
        assert target == (f"/opt/f1hbase/{source}" if (ROOT / source).is_dir() else INSTALLED)


def test_debian_is_the_base_and_maven_is_left_behind(stages: list[Stage]) -> None:
    java, jars, image = stages

    assert re.fullmatch(r"debian:\w+-slim", java.base)  # no registry's host
    assert jars.base == image.base == "java"
    with_maven = [stage for stage in stages if any("maven" in run for run in stage.all("RUN"))]
    assert with_maven == [jars]
    (jars_copied,) = [c for c in image.all("COPY") if c.startswith("--from=jars ")]
    assert jars_copied == "--from=jars /opt/f1hbase/jars /opt/f1hbase/jars"
    assert java.only("ENV") == "LOCAL_HBASE_JARS=/opt/f1hbase/jars"


def test_every_set_of_jars_is_in_the_image(stages: list[Stage]) -> None:
    (fetched,) = [run for run in stages[1].all("RUN") if "local_hbase.sh" in run]
    sets = {path.parent.name for path in (ROOT / "scripts" / "hbase").glob("*/pom.xml")}

    named = re.findall(r"local_hbase\.sh fetch(?: (\w+))?", fetched)
    # Without a name, the script fetches server and shell. That for Spark is for the side that loads, YARN for tests.
    assert {name for fetch in named for name in ([fetch] if fetch else ["server", "shell"])} == sets - {"spark", "yarn"}
