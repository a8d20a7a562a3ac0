"""scripts/local_hbase.sh: a real HBase that starts, answers, survives and leaves nothing behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import happybase
import psutil
import pytest
from hbase_server import HOST, SCRIPT, LocalHBase

COMMAND = SCRIPT.parent / "bin" / "hbase"
FAMILY = {"f": {"block_cache_enabled": True}}


@contextmanager
def connected(hbase: LocalHBase) -> Iterator[happybase.Connection]:
    connection = happybase.Connection(
        hbase.host, hbase.port, transport=hbase.transport, protocol=hbase.protocol, timeout=60_000
    )
    with closing(connection):
        yield connection


def rows_of(hbase: LocalHBase, table: str) -> dict[bytes, bytes]:
    with connected(hbase) as connection:
        return {key: cells[b"f:q"] for key, cells in connection.table(table).scan()}


def put_rows(hbase: LocalHBase, table: str, count: int) -> dict[bytes, bytes]:
    rows = {b"row%05d" % i: b"value %d" % i for i in range(count)}
    with connected(hbase) as connection:
        connection.create_table(table, FAMILY)
        with connection.table(table).batch(batch_size=1000) as batch:
            for key, value in rows.items():
                batch.put(key, {b"f:q": value})
    return rows


def script(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run local_hbase.sh with this environment alone."""
    return subprocess.run([str(SCRIPT), *arguments], env=env, capture_output=True, text=True, check=False)


def command(*arguments: str, env: dict[str, str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run scripts/bin/hbase with this environment alone."""
    return subprocess.run([str(COMMAND), *arguments], env=env, input=stdin, capture_output=True, text=True, check=False)


def is_alive(pid: int) -> bool:
    """Tell whether the process runs; one that has ended and that nobody has asked for yet does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def listening_addresses(pid: int) -> set[str]:
    return {c.laddr.ip for c in psutil.Process(pid).net_connections() if c.status == psutil.CONN_LISTEN}


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder for PATH with what a bare system has: no Java, no Maven."""
    folder = tmp_path / "bin"
    folder.mkdir()
    programs = "bash awk cat cut dirname grep head ln mkdir mv python3 readlink rm rmdir sed sha256sum sleep"
    for program in [*programs.split(), "tail", "touch", "tr", "wc"]:
        (folder / program).symlink_to(str(shutil.which(program)))
    return folder


@pytest.fixture
def listener() -> Iterator[int]:
    """A port of 127.0.0.1 on which a program that is not HBase listens."""
    with socket.create_server((HOST, 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.hbase
def test_a_second_start_changes_nothing(hbase: LocalHBase) -> None:
    before = hbase.pids()

    again = hbase.run("start")

    assert "running already" in again.stderr
    assert f"127.0.0.1:{hbase.port}" in again.stdout
    assert hbase.pids() == before
    assert set(before) == {"master", "gateway"}


@pytest.mark.hbase
def test_status_says_what_runs_and_how_many_tables_there_are(hbase: LocalHBase, table_prefix: str) -> None:
    def tables() -> int:
        lines = hbase.run("status").stdout.splitlines()
        return int(next(line for line in lines if line.startswith("tables: ")).split()[1])

    before = tables()
    put_rows(hbase, f"{table_prefix}_status", 1)

    assert tables() == before + 1


@pytest.mark.hbase
def test_it_listens_on_the_loopback_address_alone(hbase: LocalHBase) -> None:
    for pid in hbase.pids().values():
        assert listening_addresses(pid) == {HOST}


@pytest.mark.hbase
def test_rows_survive_kill_minus_nine(hbase: LocalHBase, table_prefix: str) -> None:
    table = f"{table_prefix}_kill"
    rows = put_rows(hbase, table, 10_000)

    hbase.kill_master()
    assert hbase.run("status", check=False).returncode == 3
    hbase.start()

    assert rows_of(hbase, table) == rows


@pytest.mark.hbase
def test_the_gateway_comes_back_alone_and_in_another_dialect(hbase: LocalHBase, table_prefix: str) -> None:
    table = f"{table_prefix}_gateway"
    rows = put_rows(hbase, table, 10)
    master = hbase.pids()["master"]

    hbase.kill_gateway()
    stopped = hbase.run("status", check=False)
    assert stopped.returncode == 3
    assert "gateway: stopped" in stopped.stdout
    try:
        hbase.start_gateway(transport="framed", protocol="compact")
        assert rows_of(hbase, table) == rows
    finally:
        hbase.stop_gateway()
        hbase.start_gateway(transport="buffered", protocol="binary")

    assert rows_of(hbase, table) == rows
    assert hbase.pids()["master"] == master


@pytest.mark.hbase
def test_the_genuine_shell_counts_a_table_and_fails_for_a_wrong_one(hbase: LocalHBase, table_prefix: str) -> None:
    table = f"{table_prefix}_shell"
    put_rows(hbase, table, 1234)

    result = command("shell", env=hbase.env, stdin=f"count '{table}'\ncount 'no_such_table'\n")

    assert "1234 row(s)" in result.stdout
    assert "log4j" not in result.stdout + result.stderr
    assert result.returncode == 1


@pytest.mark.hbase
def test_row_counter_counts_the_rows_of_a_table_and_of_a_family(hbase: LocalHBase, table_prefix: str) -> None:
    table = f"{table_prefix}_rowcounter"
    with connected(hbase) as connection:
        connection.create_table(table, FAMILY | {"g": FAMILY["f"]})
        with connection.table(table).batch() as batch:
            for i in range(300):
                batch.put(b"row%05d" % i, {b"f:q": b"1"} if i < 200 else {b"g:q": b"1", b"g:r": b"1"})

    def rows(*arguments: str) -> int:
        result = command(*arguments, env=hbase.env)
        assert result.returncode == 0, result.stderr
        return int(re.findall(r"^\t\tROWS=(\d+)$", result.stderr, re.MULTILINE)[-1])

    assert rows("org.apache.hadoop.hbase.mapreduce.RowCounter", table) == 300
    assert rows("rowcounter", table, "g") == 100
    # The files of the jobs were in a folder of the run, and those of the first run are gone.
    (left,) = (hbase.folder / "tmp").glob("run.*")
    assert (left / "mapred").is_dir()


@pytest.mark.hbase
def test_the_exit_code_of_a_class_is_that_of_the_command(hbase: LocalHBase) -> None:
    usage_asked_for = command("org.apache.hadoop.hbase.PerformanceEvaluation", "--help", env=hbase.env)
    no_such_class = command("org.example.NoSuchClass", env=hbase.env)

    assert usage_asked_for.returncode == 0, usage_asked_for.stderr
    assert "randomWrite" in usage_asked_for.stderr
    assert no_such_class.returncode == 1
    assert "org.example.NoSuchClass" in no_such_class.stderr


@pytest.mark.hbase
def test_stop_leaves_no_process_and_keeps_the_rows(hbase: LocalHBase, table_prefix: str) -> None:
    table = f"{table_prefix}_stop"
    rows = put_rows(hbase, table, 100)
    pids = hbase.pids()
    try:
        hbase.stop()
        assert not any(is_alive(pid) for pid in pids.values())
        assert hbase.run("status", check=False).returncode == 3
        assert hbase.pids() == {}
        assert "was not running" in hbase.run("stop").stderr
    finally:
        hbase.start()

    assert rows_of(hbase, table) == rows


@contextmanager
def served(hbase: LocalHBase) -> Iterator[subprocess.Popen[str]]:
    """The HBase, by ``local_hbase.sh serve``, once it answers."""
    server = subprocess.Popen(
        [str(SCRIPT), "serve"], env=hbase.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    try:
        # It says where it listens when it does; the line is missing when it has failed.
        assert f":{hbase.port}," in server.stdout.readline(), server.communicate()[1]
        yield server
    finally:
        server.terminate()
        server.communicate()


@pytest.mark.hbase
def test_serve_stays_until_it_is_asked_to_end_and_stops_both_parts(tmp_path: Path) -> None:
    other = LocalHBase(tmp_path / "hbase", environment={"LOCAL_HBASE_THRIFT_ADDRESS": "0.0.0.0"})

    with served(other) as server:
        pids = other.pids()
        assert put_rows(other, "t", 10) == rows_of(other, "t")
        listening = {part: listening_addresses(pid) for part, pid in pids.items()}
        assert listening == {"master": {HOST}, "gateway": {"0.0.0.0"}}
        again = other.run("serve", check=False)
        assert again.returncode == 1
        assert "running already" in again.stderr

        server.send_signal(signal.SIGTERM)
        _, said = server.communicate()

    assert server.returncode == 0
    assert "HBase is stopped" in said
    assert "killing it" not in said
    assert not any(is_alive(pid) for pid in pids.values())


@pytest.mark.hbase
def test_serve_ends_with_an_error_when_a_part_dies_and_stops_the_other(tmp_path: Path) -> None:
    other = LocalHBase(tmp_path / "hbase")

    with served(other) as server:
        pids = other.pids()
        psutil.Process(pids["gateway"]).kill()
        _, said = server.communicate()

    assert server.returncode == 1
    assert "HBase has failed: the gateway has ended" in said
    assert f"{other.folder}/logs/gateway.log" in said
    assert not any(is_alive(pid) for pid in pids.values())
    assert other.pids() == {}


@pytest.mark.hbase
def test_a_signal_while_a_part_is_being_launched_leaves_no_process(tmp_path: Path) -> None:
    other = LocalHBase(tmp_path / "hbase")
    server = subprocess.Popen([str(SCRIPT), "serve"], env=other.env, stderr=subprocess.PIPE, text=True)

    # Made by the launch, before the process that it names is what the other commands look for.
    while not (other.folder / "run" / "master").exists():
        assert server.poll() is None
        time.sleep(0.001)
    server.terminate()
    server.communicate()

    folder = f"-DLOCAL_HBASE_DIR={other.folder}"
    left = [process for process in psutil.process_iter(["cmdline"]) if folder in (process.info["cmdline"] or [])]
    for process in left:
        process.kill()
    assert left == []
    assert server.returncode == 0


@pytest.mark.hbase
def test_wipe_refuses_while_it_runs(hbase: LocalHBase) -> None:
    refused = hbase.run("wipe", "--yes", check=False)

    assert refused.returncode == 1
    assert "HBase is running" in refused.stderr


@pytest.mark.hbase
def test_a_pid_that_was_given_to_another_process_is_left_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        other = LocalHBase(tmp_path / "hbase")
        (other.folder / "run").mkdir(parents=True)
        (other.folder / "run" / "master").write_text(f"pid={stranger.pid}\n")

        other.stop()

        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.hbase
@pytest.mark.parametrize("setting", ["LOCAL_HBASE_THRIFT_PORT", "LOCAL_HBASE_ZK_PORT"])
def test_a_taken_port_is_named_with_the_setting_that_changes_it(tmp_path: Path, listener: int, setting: str) -> None:
    other = LocalHBase(tmp_path / "hbase")

    refused = other.run("start", check=False, env={setting: str(listener)})

    assert refused.returncode == 1
    assert f"port {listener} is taken" in refused.stderr
    assert f"{setting}=" in refused.stderr
    assert other.pids() == {}


@pytest.mark.hbase
def test_a_start_that_fails_shows_the_log_and_leaves_nothing(tmp_path: Path) -> None:
    other = LocalHBase(tmp_path / "hbase")
    other.folder.mkdir()
    (other.folder / "data").write_text("in the way")

    failed = other.run("start", check=False)

    assert failed.returncode == 1
    assert f"{other.folder}/logs/master.log" in failed.stderr
    assert "hbase.rootdir" in failed.stderr
    assert other.pids() == {}


def test_without_java_it_says_how_to_install_it(tmp_path: Path, tools: Path) -> None:
    refused = script("start", PATH=str(tools), HOME=str(tmp_path))

    assert refused.returncode == 1
    assert "there is no java" in refused.stderr
    for line in ("apt-get install", "dnf install", "brew install"):
        assert line in refused.stderr


def test_a_wrong_java_home_is_named(tmp_path: Path, tools: Path) -> None:
    refused = script("start", PATH=str(tools), HOME=str(tmp_path), JAVA_HOME="/nowhere")

    assert refused.returncode == 1
    assert "JAVA_HOME is /nowhere" in refused.stderr


def test_without_maven_it_says_how_to_install_it(tmp_path: Path, tools: Path) -> None:
    java = tools / "java"
    java.write_text("#!/usr/bin/env bash\necho 'openjdk version \"17.0.1\"' >&2\n")
    java.chmod(0o755)
    (tools / "env").symlink_to(str(shutil.which("env")))

    refused = script("fetch", PATH=str(tools), HOME=str(tmp_path))

    assert refused.returncode == 1
    assert "there is no mvn" in refused.stderr
    assert "apt-get install" in refused.stderr


def test_a_java_that_is_too_old_or_too_new_is_named(tmp_path: Path, tools: Path) -> None:
    (tools / "env").symlink_to(str(shutil.which("env")))
    java = tools / "java"
    for version, name in (("1.8.0_402", "is 1"), ("24", "is 24")):
        java.write_text(f"#!/usr/bin/env bash\necho 'openjdk version \"{version}\"' >&2\n")
        java.chmod(0o755)

        refused = script("start", PATH=str(tools), HOME=str(tmp_path))

        assert refused.returncode == 1
        assert f"{java} {name}" in refused.stderr


def test_a_wrong_setting_is_named(tmp_path: Path, tools: Path) -> None:
    refused = script("status", PATH=str(tools), HOME=str(tmp_path), LOCAL_HBASE_ZK_PORT="many")

    assert refused.returncode == 2
    assert "LOCAL_HBASE_ZK_PORT is 'many'" in refused.stderr


@pytest.mark.parametrize("setting", ["LOCAL_HBASE_THRIFT_ADDRESS", "LOCAL_HBASE_UI_ADDRESS"])
def test_an_address_at_which_hbase_could_not_be_asked_is_refused(tmp_path: Path, tools: Path, setting: str) -> None:
    refused = script("status", PATH=str(tools), HOME=str(tmp_path), **{setting: "192.0.2.1"})

    assert refused.returncode == 2
    assert f"{setting} is '192.0.2.1'; it has to be 127.0.0.1 or 0.0.0.0" in refused.stderr


def test_a_lock_left_by_a_process_that_had_the_same_pid_is_broken(tmp_path: Path, tools: Path) -> None:
    # As in a container that was killed and started again: there the script has the same pid every time.
    state = tmp_path / "hbase" / "run"
    state.mkdir(parents=True)
    lock_then_stop = 'ln -s "$$" "$1" && exec "$2" stop'

    stopped = subprocess.run(
        ["bash", "-c", lock_then_stop, "bash", str(state / "lock"), str(SCRIPT)],
        env={"PATH": str(tools), "HOME": str(tmp_path), "LOCAL_HBASE_DIR": str(state.parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert stopped.returncode == 0, stopped.stderr
    assert "HBase was not running" in stopped.stderr
    assert list(state.iterdir()) == []


def test_a_class_needs_a_running_hbase(tmp_path: Path, tools: Path) -> None:
    refused = command("org.example.Class", env={"PATH": str(tools), "HOME": str(tmp_path)})

    assert refused.returncode == 1
    assert "HBase is not running: scripts/local_hbase.sh start" in refused.stderr


def test_the_hbase_command_names_what_it_can_do_and_its_version(tmp_path: Path, tools: Path) -> None:
    env = {"PATH": str(tools), "HOME": str(tmp_path)}

    assert re.fullmatch(r"HBase 2\.5\.\d+\S*\n", command("version", env=env).stdout)
    for words in ([], ["--help"], ["master", "start"]):
        refused = command(*words, env=env)
        assert refused.returncode == 2
        (line,) = refused.stderr.splitlines()
        assert "rowcounter TABLE" in line


def test_wipe_deletes_the_data_of_this_hbase_and_nothing_else(tmp_path: Path, tools: Path) -> None:
    folder = tmp_path / "hbase"
    for name in ("data", "zookeeper", "run", "job-files", "mine"):
        (folder / name).mkdir(parents=True)
    (folder / "mine" / "file").touch()
    env = {"PATH": str(tools), "HOME": str(tmp_path), "LOCAL_HBASE_DIR": str(folder)}

    assert "nothing to delete" in script("wipe", "--yes", **env).stderr
    assert (folder / "data").exists()

    (folder / ".f1hbase-local-hbase").touch()
    assert "data" in script("wipe", "--yes", **env).stderr
    assert [path.name for path in folder.iterdir()] == ["mine"]


@pytest.mark.hbase
def test_a_jar_cut_short_is_noticed_and_fetched_again(hbase: LocalHBase, tmp_path: Path) -> None:
    del hbase  # it is running, so its jars are there
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    jars = Path(os.environ.get("LOCAL_HBASE_JARS") or home / "f1hbase" / "hbase-jars")
    (whole,) = jars.glob(f"server-{os.environ.get('LOCAL_HBASE_VERSION', '2.5.8')}-*")
    copy = tmp_path / "jars" / whole.name
    shutil.copytree(whole, copy, copy_function=os.link)
    jar = next(copy.glob("hbase-server-*.jar"))
    jar.unlink()
    jar.write_bytes((whole / jar.name).read_bytes()[:100_000])

    fetched_again = script("fetch", "server", **(os.environ | {"LOCAL_HBASE_JARS": str(copy.parent)}))

    assert fetched_again.returncode == 0, fetched_again.stderr
    assert f"damaged in {copy}, fetching again: {jar.name}" in fetched_again.stderr
    assert jar.read_bytes() == (whole / jar.name).read_bytes()
    assert [path.name for path in copy.parent.iterdir() if path.is_dir()] == [whole.name]
