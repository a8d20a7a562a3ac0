"""What Spark is refused for, each time in one line that says what to do; and its parts by themselves."""

from __future__ import annotations

import doctest
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from bisect import bisect_right
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cli import ENTRY_POINT
from files_zone import SESSIONS, fill
from hbase_server import free_ports
from hypothesis import given
from hypothesis import strategies as st
from py4j.protocol import Py4JError
from spark_runs import need_jars

from f1hbase.cluster import rounds, scans, session
from f1hbase.cluster.encoding import BLOCK_ROWS, PackedRows
from f1hbase.cluster.errors import explain, jars_problem, last_words
from f1hbase.cluster.rounds import numbers_hashed_to, spark_hash
from f1hbase.cluster.session import CELLS_JAR
from f1hbase.errors import ConfigError

_JAVA = shutil.which("java")
_SECRET = "hunter2hunter2"
_MAIN = 'Exception in thread "main" org.apache.spark.SparkException:'
_OTHER_PYTHON = (
    "pyspark.errors.exceptions.base.PySparkRuntimeError: [PYTHON_VERSION_MISMATCH] Python in worker has different "
    "version (3, 9) than that in driver 3.11, PySpark cannot run with different minor versions."
)


@pytest.fixture(scope="module")
def zone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small landing zone."""
    folder = tmp_path_factory.mktemp("refusals") / "zone"
    fill(folder)
    return folder


def refused(folder: Path, *arguments: str, command: str = "load", exit_code: int = 2, **environment: str) -> str:
    """Run a command that must be refused in one line, and return that."""
    result = subprocess.run(
        [sys.executable, str(ENTRY_POINT), command, "--hbase-port", str(free_ports(1)[0]), *arguments],
        cwd=folder, env=os.environ | environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    lines = [line for line in result.stdout.splitlines() if line]
    assert (result.returncode, len(lines)) == (exit_code, 1), result.stdout
    return lines[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--engine", "spark"], "not from 'openf1'"),
        (["--engine", "spark", "--from", "{zone}", "--to", "./other"], "loads into hbase alone"),
        (["--engine", "spark", "--from", "{zone}", "--to", "hbase", "--to", "./other"], "loads into hbase alone"),
        (["--engine", "spark", "--from", "az://container/zone"], "reads folders, s3:// and gs://"),
        (["--engine", "spark", "--from", "/Volumes/a/b/c/zone"], "reads folders, s3:// and gs://"),
        (["--engine", "spark", "--from", "./nowhere"], "there is no folder './nowhere'"),
        (["--spark-master", "yarn"], "--spark-master goes with --engine spark"),
        (["--engine", "yarn"], "'yarn' is not one of 'local', 'spark'"),
        (["--engine", "spark", "--spark-conf", "memory=4g"], "spark.name=value"),
        (["--engine", "spark", "--spark-conf", "spark.jars=./no.jar", "--from", "{zone}"], "no file './no.jar'"),
    ],
)
def test_what_makes_no_sense_is_refused(zone: Path, tmp_path: Path, options: list[str], said: str) -> None:
    assert said in refused(tmp_path, *(option.format(zone=zone) for option in options))


@pytest.mark.parametrize(
    ("command", "options", "said"),
    [
        ("export", ["--to", "./t", "--engine", "spark", "--from", "{zone}"], "exports tables of HBase, not"),
        ("export", ["--to", "./t", "--snapshot"], "--snapshot goes with --engine spark"),
        ("export", ["--to", "./t", "--spark-master", "yarn"], "--spark-master goes with --engine spark"),
        ("verify", ["--engine", "spark", "--to", "{zone}"], "verifies tables of HBase, not"),
        ("verify", ["--spark-conf", "spark.executor.memory=4g"], "--spark-conf goes with --engine spark"),
    ],
)
def test_what_export_and_verify_cannot_do_is_refused(
    zone: Path, tmp_path: Path, command: str, options: list[str], said: str
) -> None:
    assert said in refused(tmp_path, *(option.format(zone=zone) for option in options), command=command)


def test_a_secret_does_not_belong_into_a_command_line(tmp_path: Path) -> None:
    line = refused(tmp_path, "--engine", "spark", "--spark-conf", f"spark.hadoop.fs.s3a.secret.key={_SECRET}")
    assert "spark-defaults.conf" in line
    assert _SECRET not in line


def test_without_java_it_says_so(zone: Path, tmp_path: Path) -> None:
    options = ("--engine", "spark", "--from", str(zone))
    assert "no java on the PATH" in refused(tmp_path, *options, PATH="/nowhere", JAVA_HOME="")
    assert "JAVA_HOME is '/nowhere'" in refused(tmp_path, *options, JAVA_HOME="/nowhere")
    reading = [("export", ("--engine", "spark", "--to", "./tables")), ("verify", ("--engine", "spark"))]
    for command, others in reading:
        line = refused(tmp_path, *others, command=command, PATH="/nowhere", JAVA_HOME="")
        assert "no java on the PATH" in line


def test_without_the_package_it_names_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"needs pyspark, which is not installed: pip install 'f1hbase\[spark\]'"):
        session.check_installed()


def test_without_the_jars_of_hbase_it_says_how_to_name_them(zone: Path, tmp_path: Path) -> None:
    assert _JAVA is not None
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "java").symlink_to(_JAVA)
    options = ("--engine", "spark", "--from", str(zone))
    assert "spark.jars=A.jar,B.jar" in refused(tmp_path, *options, PATH=str(commands), JAVA_HOME="")
    command = commands / "hbase"
    command.write_text("#!/bin/sh\necho 'no such command: mapredcp' >&2; exit 1\n", encoding="utf-8")
    command.chmod(0o755)
    path = f"{commands}{os.pathsep}/bin{os.pathsep}/usr/bin"
    assert "(no such command: mapredcp)" in refused(tmp_path, *options, PATH=path)


def test_a_folder_that_is_no_zone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "sessions.jsonl").write_text(json.dumps(SESSIONS[0]), encoding="utf-8")
    line = refused(tmp_path, "--engine", "spark", "--from", "./records")
    assert "loads from a landing zone" in line


# The parts by themselves


def test_the_examples_are_true() -> None:
    assert doctest.testmod(rounds).failed == 0
    assert doctest.testmod(scans).failed == 0
    assert doctest.testmod(session).failed == 0


_NAMES = st.binary(max_size=300)
_RECORDS = st.dictionaries(
    st.binary(min_size=1, max_size=40), st.dictionaries(_NAMES, st.binary(max_size=50), min_size=1, max_size=3)
)


@given(_RECORDS, st.lists(st.binary(min_size=1, max_size=40)))
def test_blocks_say_all_rows_in_the_order_of_hbase(records: dict[bytes, dict[bytes, bytes]], cuts: list[bytes]) -> None:
    rows, cuts = PackedRows(), sorted(set(cuts))
    for key, cells in records.items():
        rows.add(tuple(b"car:" + name for name in cells), [key], [[value] for value in cells.values()])
    found: dict[bytes, dict[bytes, bytes]] = {}
    for block in rows.blocks(cuts):
        unpacked = _unpacked(block.content)
        keys = [key for key, _ in unpacked]
        assert keys == sorted(keys)
        assert (block.key, block.order) == (keys[0], b"car\0" + keys[0])
        assert len({bisect_right(cuts, key) for key in keys}) == 1
        assert all(list(cells) == sorted(cells) for _, cells in unpacked)
        found |= dict(unpacked)
    assert found == records


def test_a_block_has_so_many_rows_at_the_most() -> None:
    rows = PackedRows()
    keys = [b"%05d" % number for number in range(BLOCK_ROWS + 1)]
    rows.add((b"car:rpm",), keys, [[b"1"] * len(keys)])
    assert [len(_unpacked(block.content)) for block in rows.blocks([])] == [BLOCK_ROWS, 1]


def _unpacked(block: bytes) -> list[tuple[bytes, dict[bytes, bytes]]]:
    rest = io.BytesIO(block)

    def take(size: int) -> bytes:
        return rest.read(int.from_bytes(rest.read(size), "big"))

    assert take(1) == b"car"
    names = [take(2) for _ in range(int.from_bytes(rest.read(2), "big"))]
    found = []
    while rest.tell() < len(block):
        key = take(2)
        found.append((key, {name: take(4) for name in names}))
    return found


@given(st.integers(1, 300))
def test_each_partition_gets_a_number_of_its_own(count: int) -> None:
    numbers = numbers_hashed_to(count)
    assert [spark_hash(number) % count for number in numbers] == list(range(count))


def _java(*texts: str) -> Any:
    """Return an error as Py4J raises it, whose cause is that of the next text."""
    error: Any = None
    for text in reversed(texts):
        error = SimpleNamespace(toString=lambda text=text: text, getCause=lambda cause=error: cause)
    failure: Any = Exception("An error occurred while calling o1.save")
    failure.java_exception = error
    return failure


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (("org.apache.spark.SparkException: Job aborted", "java.io.IOException: No space left on device"), "no room"),
        (("java.io.IOException: Cannot run program \"python3.9\": error=2",), "cannot start 'python3.9'"),
        (
            (f"org.apache.spark.api.python.PythonException: Traceback (most recent call last):\n {_OTHER_PYTHON}",),
            "the executors have Python 3.9, this process 3.11",
        ),
        (("java.io.FileNotFoundException: File file:/zone/a.gz does not exist\nIt is",), "find 'file:/zone/a.gz':"),
        (("java.io.IOException: Retry attempted 10 times without completing, bailing out",), "HBase has not taken the"),
        (
            ('AccessControlException: Permission denied: user=me, access=WRITE, inode="/apps":hbase:hbase:drwxr-xr-x',),
            "the user 'me' may not write to '/apps'",
        ),
        (("org.apache.hadoop.hbase.security.AccessDeniedException: Insufficient permissions (user=",), "grant 'USER'"),
        (("java.lang.OutOfMemoryError: Java heap space",), "spark.driver.memory"),
        (("org.apache.hadoop.hbase.TableNotEnabledException: t_f1_data is disabled.",), "does not take files into all"),
        (("java.lang.IllegalArgumentException: spark.task.cpus should be int, but was a",), "it should be int"),
        (("java.lang.IllegalArgumentException: System memory 259522560 must be at least 471859200.",), "memory=1g"),
        (("java.lang.ClassNotFoundException: Class org.example.Nothing not found",), "class org.example.Nothing: name"),
        (("java.lang.NoSuchMethodError: 'void org.apache.hadoop.hbase.X.y()'",), "not those of this Spark"),
        (("java.lang.IllegalStateException: it is odd\n\tat somewhere",), "Spark failed: it is odd"),
    ],
)  # fmt: skip
def test_errors_are_one_line_that_says_what_to_do(texts: tuple[str, ...], said: str) -> None:
    line = explain(_java(*texts))
    assert said in line
    assert "\n" not in line


def _of_py4j(text: str) -> Py4JError:
    error = Py4JError("An error occurred while calling o1.save")
    error.java_exception = _java(text).java_exception
    return error


def test_what_java_says_nothing_of_is_found_in_what_it_has_printed() -> None:
    error = Py4JError("An error occurred while calling z:org.apache.hadoop.hbase.client.ConnectionFactory.create")
    printed = (
        "WARN Something: ClassNotFoundException: org.example.Optional\n"
        'Exception in thread "Thread-4" java.lang.NoClassDefFoundError: io/opentelemetry/api/trace/Span\n'
        "\tat java.base/java.lang.Class.getDeclaredMethods0(Native Method)\n"
        "Caused by: java.lang.ClassNotFoundException: io.opentelemetry.api.trace.Span\n"
    )
    said = "Spark lacks the Java class io.opentelemetry.api.trace.Span: name the jars of HBase"
    assert explain(error, printed).startswith(said)
    assert (jars_problem(error, printed) or "").startswith(said)
    assert jars_problem(error, "java.net.ConnectException: Connection refused") is None
    stopped = "java.lang.IllegalStateException: Cannot call methods on a stopped SparkContext.\nThis stopped"
    killed = "ERROR StandaloneSchedulerBackend: Application has been killed. Reason: All masters are unresponsive!"
    assert "no such Spark master" in explain(_of_py4j(stopped), f"WARN a\n{killed} Giving up.\n")
    exited = "ERROR YarnClientSchedulerBackend: YARN application has exited unexpectedly with state FAILED! Check"
    assert "YARN has ended Spark's application (state FAILED)" in explain(_of_py4j(stopped), f"{exited}\n")
    # A cause that it tells counts for more than what was printed earlier.
    assert "no room left" in explain(_java("java.io.IOException: No space left on device"), printed)


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        (
            "Error occurred during initialization of VM\nCould not reserve enough space for a heap",
            "give it less",
        ),
        (
            "Invalid maximum heap size: -Xmxlots\nError: Could not create the Java VM.",
            "of the size 'lots'",
        ),
        ("ERROR JavaUtils: Failed to create directory /nowhere/blockmgr-5f\n\tat java", "own folder '/nowhere' cannot"),
        (
            f"{_MAIN} When running with master 'yarn' either HADOOP_CONF_DIR or YARN_CONF_DIR must be set\n",
            "set HADOOP_CONF",
        ),
        (
            f"WARN a\n{_MAIN} Executor cores must be a positive number\n\tat org",
            "Executor cores must be a positive number",
        ),
        ("WARN nothing more", "WARN nothing more"),
        ("", "without a word"),
    ],
)
def test_what_java_has_printed_before_it_ended_is_one_line(printed: str, said: str) -> None:
    line = last_words(printed)
    assert said in line
    assert not line.startswith("Exception")
    assert "\n" not in line


def test_the_jar_is_what_the_source_says(tmp_path: Path) -> None:
    if shutil.which("javac") is None:
        pytest.skip("there is no javac")
    need_jars()
    script = ENTRY_POINT.parent / "scripts" / "spark" / "build_jar.sh"
    made = tmp_path / "cells.jar"
    subprocess.run([str(script), str(made)], env=os.environ | {"PYTHON": sys.executable}, check=True)
    assert _classes(made) == _classes(CELLS_JAR)


def _classes(jar: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(jar) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


# With Spark, in a process of its own


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What `spark_probe.py` has found."""
    need_jars()
    folder = tmp_path_factory.mktemp("probe")
    probe = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("spark_probe.py")), str(folder)],
        env=os.environ | {"JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1", "PYTHONPATH": str(ENTRY_POINT.parent)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert probe.returncode == 0, probe.stderr
    assert not probe.stderr  # Spark's own words go elsewhere
    return json.loads(probe.stdout)


def test_the_hash_is_the_one_that_spark_partitions_by(probed: Any) -> None:
    assert probed["hashes"] == [spark_hash(number) for number in range(1000)]


def test_settings_that_are_misspelt_are_told_with_what_was_meant(probed: Any) -> None:
    assert probed["misspelt"] == [
        ["spark.drivr.memory", "spark.driver.memory"],
        ["spark.executor.memroy", "spark.executor.memory"],
    ]


def test_the_folders_of_runs_that_are_no_more_are_deleted(probed: Any) -> None:
    assert probed["folders"] == ["alive", "mine"]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("no room", r"staging' has room for .* GB, and about 1,000,000,000.0 GB are needed: free some"),
        ("no folder", r"file/in' cannot be written \(.*\): name another with --spark-staging"),
        ("no class", "lacks the Java class org.example.Nothing: name .*cells.jar and the jars of HBase"),
        ("no file system", r"cannot read gs://: add its connector"),
        ("twice", "runs in this process already"),
        ("not shared", "executors do not see this machine's staging folder: name one .* with --spark-staging"),
        ("unknown file system", "knows no file system 'nosuch': name another folder with --spark-staging"),
        ("no package", "the executors' Python lacks the package 'not_there_at_all'"),
        ("stopped before Java is there", "^interrupted while Spark was at work"),
        ("stopped while the master is silent", "^interrupted while Spark was at work"),
        ("no master", "Spark does not start with the master 'nonsense': there is no such Spark master"),
    ],
)
def test_what_spark_cannot_do_is_one_line(probed: Any, what: str, said: str) -> None:
    line = probed["errors"][what]
    assert re.search(said, line)
    assert "\n" not in line
