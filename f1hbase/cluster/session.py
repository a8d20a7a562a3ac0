"""Starts Spark in this process (its Java beside it), quietly, and stops it again; knows nothing of what it is for."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from f1hbase.cluster.errors import SparkError, explain, is_told, last_words
from f1hbase.errors import ConfigError

_log = logging.getLogger(__name__)

CELLS_JAR = Path(__file__).with_name("cells.jar")
"""`Cells.java`, compiled; scripts/spark/build_jar.sh makes it."""

_PACKAGE = Path(__file__).resolve().parent.parent
_MAPREDCP_SECONDS = 600.0
"""How long `hbase mapredcp` may take: the local HBase's fetches the jars when it is asked for the first time."""

_BRIEF_JAVA = "-XX:TieredStopAtLevel=1"
"""Of Java's two compilers the quick one only. Where 7.3 million rows are read, the other one takes five to seven
processor seconds, and saves one and a half of them (from a table) or seven (from a snapshot); measured."""

_UNDER_SPARK_SUBMIT = "PYSPARK_GATEWAY_PORT"
_TO_LOG = 2_000
_TIDYING_SECONDS = 4.0
"""How long Spark's Java may take to delete its files when it is killed."""
_ALIKE = 0.94
"""From how like two names of settings are (`difflib`) the one is taken for the other misspelt."""
_ENDING_SECONDS = 2.0
"""How long Spark's Java takes to end once it answers no longer."""

INSTALL = "pip install 'f1hbase[spark]'"


@dataclass(frozen=True, slots=True)
class SparkSettings:
    """How Spark is started.

    Attributes:
        master: As of `spark-submit --master`; None for `local[*]`, or what `spark-submit` says.
        conf: Further settings of Spark, by name.
        staging: The folder for HBase's files until HBase has taken them, as Hadoop names it; None for one below `/tmp`.
        brief: Whether it will be over in a minute.
    """

    master: str | None = None
    conf: tuple[tuple[str, str], ...] = ()
    staging: str | None = None
    brief: bool = False


def check_installed() -> None:
    """Look whether PySpark and a Java are there; starts nothing.

    Raises:
        ConfigError: If one is not; says how to have it.
    """
    for package in ("pyspark", "pyarrow", "numpy", "pandas"):
        if find_spec(package) is None:
            raise ConfigError(f"--engine spark needs {package}, which is not installed: {INSTALL}")
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if java is None or not os.access(java, os.X_OK):
        where = f"JAVA_HOME is '{home}', and there is no bin/java in it" if home else "there is no java on the PATH"
        raise ConfigError(f"--engine spark needs Java 8, 11 or 17, and {where}: install one, or set JAVA_HOME right.")


def hbase_jars(conf: Sequence[tuple[str, str]], hbase: str | None) -> list[str]:
    """Return the jars of HBase that Spark needs: those that the settings name, else what `hbase mapredcp` lists.

    Args:
        conf: The settings of Spark.
        hbase: The `hbase` command, if there is one.

    Raises:
        ConfigError: If there are none; says how to name them.
    """
    named = dict(conf).get("spark.jars")
    if named is not None:
        missing = [jar for jar in named.split(",") if "://" not in jar and not Path(jar).is_file()]
        if missing:
            raise ConfigError(f"--spark-conf spark.jars: there is no file '{missing[0]}'.")
        return named.split(",")
    if _UNDER_SPARK_SUBMIT in os.environ:
        return []  # of a running Java, `spark-submit --jars` has named them
    how = "name them with --spark-conf spark.jars=A.jar,B.jar, as 'hbase mapredcp' lists them on a node of HBase"
    if hbase is None:
        raise ConfigError(
            f"--engine spark needs HBase's jars, and there is no command 'hbase' on the PATH to list them: {how}."
        )
    try:
        listed = subprocess.run(
            [hbase, "mapredcp"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=_MAPREDCP_SECONDS,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"'{hbase} mapredcp' does not list HBase's jars ({error}): {how}.") from error
    jars = [jar for jar in listed.stdout.strip().rpartition("\n")[2].split(":") if jar.endswith(".jar")]
    if listed.returncode or not jars:
        said = (listed.stderr.strip().splitlines() or [f"exit code {listed.returncode}"])[-1]
        raise ConfigError(f"'{hbase} mapredcp' does not list HBase's jars ({said[:200]}): {how}.")
    return jars


class SparkApplication:
    """One Spark application of this process, from `start` to `stop`; any thread may `kill` it meanwhile.

    Args:
        settings: How it is started.
        jars: The jars of HBase.
        name: What Spark's own pages call it.

    Attributes:
        is_started: Whether it can be given work.
    """

    def __init__(self, settings: SparkSettings, jars: Sequence[str], name: str) -> None:
        self.is_started = False
        self._settings = settings
        self._jars = ",".join([str(CELLS_JAR), *jars])
        self._name = name
        self._folder = Path(tempfile.mkdtemp(prefix="f1hbase-spark-"))
        self._log_file = self._folder / "spark.log"
        self._gateway: Any = None
        self._unheard = logging.NullHandler()

    def start(self) -> None:
        """Start it, which takes seconds, and minutes where a cluster is busy.

        Raises:
            SparkError: If Spark does not start; says why.
        """
        from pyspark import SparkConf, SparkContext
        from pyspark.java_gateway import launch_gateway

        if SparkContext._active_spark_context is not None:
            self._delete_folder()
            raise SparkError(
                "a Spark application runs in this process already: stop it (spark.stop()) before the load."
            )
        # Py4J tells the root logger of a Java that is gone, with a stack, which is printed where that has no handler.
        if not logging.getLogger().handlers:
            logging.getLogger().addHandler(self._unheard)
        submitted = _UNDER_SPARK_SUBMIT in os.environ
        given = dict(self._settings.conf)
        master = self._settings.master or given.get("spark.master") or (None if submitted else "local[*]")
        is_local = master is not None and master.startswith("local")
        conf = SparkConf()
        for key, value in (_defaults(self._name, is_local=is_local, brief=self._settings.brief) | given).items():
            conf.set(key, value)
        if master is not None:
            conf.set("spark.master", master)
        conf.set("spark.jars", self._jars)
        if is_local and "PYSPARK_PYTHON" not in os.environ:
            os.environ["PYSPARK_PYTHON"] = sys.executable
        try:
            with self._log_file.open("wb") as log:
                # What Spark's Java says goes to a file of its own, the end of which is told if it fails.
                self._gateway = launch_gateway(conf, {"stdout": log, "stderr": log})  # type: ignore[no-untyped-call]
            self.context = SparkContext(gateway=self._gateway, conf=conf)
            _silence(self.context)
            if not is_local:
                self.context.addPyFile(str(_zipped(self._folder)))
            self.is_started = True
            for name, meant in misspelt(given, self.known_settings()):
                _log.warning("--spark-conf: Spark knows no setting %s; did you mean %s?", name, meant)
        except BaseException as error:
            reason = last_words(self.printed) if self._has_ended(error) else explain(error, self.printed)
            self.stop()
            if isinstance(error, Exception):
                raise SparkError(f"Spark does not start with the master '{master}': {reason}") from error
            raise

    @property
    def jvm(self) -> Any:
        """Spark's Java, by Py4J."""
        return self.context._jvm

    @property
    def printed(self) -> str:
        """What its Java has printed until now; nothing under `spark-submit`, whose Java prints elsewhere."""
        return self._log_file.read_text(errors="replace") if self._log_file.is_file() else ""

    def known_settings(self) -> list[str]:
        """Return the names of the settings that this Spark knows itself; none where it does not tell.

        Its parts for YARN, Kubernetes and file systems know more.
        """
        try:
            entries = getattr(getattr(self.jvm, "org.apache.spark.internal.config.ConfigEntry$"), "MODULE$")
            return [str(name) for name in entries.knownConfigs().keySet().toArray()]
        except Exception as error:  # noqa: BLE001 - Py4J's, as it is no public class of Spark
            _log.debug("Spark does not tell its settings: %s", explain(error))
            return []

    @cached_property
    def session(self) -> Any:
        """Spark SQL, which takes two processor seconds and more to begin with."""
        from pyspark.sql import SparkSession

        return SparkSession(self.context)

    def java_class(self, name: str) -> Any:
        """Return a class of Java.

        Raises:
            SparkError: If Spark lacks it.
        """
        from py4j.java_gateway import JavaPackage

        found = self.jvm
        for part in name.split("."):
            found = getattr(found, part)
        if isinstance(found, JavaPackage):
            raise SparkError(
                f"Spark lacks the Java class {name}: name {CELLS_JAR} and the jars of HBase with --spark-conf "
                "spark.jars=A.jar,B.jar (under spark-submit with --jars), as 'hbase mapredcp' lists them."
            )
        return found

    def stages(self) -> tuple[int, int]:
        """Return of the stages under way how many tasks are done, and how many there are."""
        try:
            tracker = self.context.statusTracker()
            infos = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
        except Exception as error:  # noqa: BLE001 - its Java may be gone, which whoever waits for a result is told
            _log.debug("Spark does not say how far it is: %s", error)
            return 0, 0
        known = [info for info in infos if info is not None]
        return sum(info.numCompletedTasks for info in known), sum(info.numTasks for info in known)

    @property
    def is_starved(self) -> bool:
        """Whether the cluster has given its jobs nothing to run on, as Spark says every 15 seconds."""
        return "Initial job has not accepted any resources" in self.printed

    def cancel(self) -> None:
        """End the jobs under way."""
        with suppress(Exception):  # it may be gone
            self.context.cancelAllJobs()

    def kill(self) -> None:
        """End its Java within some seconds, and with it whatever waits for that, its start included."""
        process = getattr(self._gateway, "proc", None)
        if process is not None:
            # Ended politely, it deletes its files.
            process.terminate()
            try:
                process.wait(_TIDYING_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
            return
        # PySpark names the process only once its Java answers, which may be fetching packages until then.
        for child in psutil.Process().children():
            with suppress(psutil.Error):
                if f"spark.jars={self._jars}" in child.cmdline():
                    child.kill()

    def stop(self) -> None:
        """End it, and its Java; whatever it is at."""
        from pyspark import SparkContext

        self.is_started = False
        context: Any = SparkContext._active_spark_context
        server = getattr(context, "_accumulatorServer", None)
        if server is not None:
            # It looks once a second whether it is to end, unless its Java hangs up meanwhile.
            ending = threading.Thread(target=server.shutdown)
            ending.start()
        with suppress(Exception):
            if context is not None:
                context._jsc.stop()
        process = getattr(self._gateway, "proc", None)
        if process is not None:
            with suppress(Exception):
                self._gateway.shutdown()
            # Its end of the pipe is what its Java waits for.
            process.stdin.close()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            # Or PySpark would take the Java that is gone for its own.
            SparkContext._gateway = SparkContext._jvm = None
        if server is not None:
            ending.join()
        if context is not None:
            context._jsc = None
            with suppress(Exception):
                context.stop()
        logging.getLogger().removeHandler(self._unheard)
        if text := self.printed.strip():
            _log.debug("Spark's own words end in: %s", text[-_TO_LOG:])
        self._delete_folder()

    def _delete_folder(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _has_ended(self, error: BaseException) -> bool:
        """Return whether its Java has ended instead of saying what is wrong."""
        if self._gateway is None:
            return True
        process = self._gateway.proc
        if process is None or is_told(error):
            return False
        try:
            process.wait(_ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return True


def misspelt(names: Iterable[str], known: Collection[str]) -> list[tuple[str, str]]:
    """Return the names of settings that are nearly, but not quite, those of others, each with that.

    >>> misspelt(["spark.executor.memroy", "spark.my.own"], ["spark.executor.memory", "spark.executor.cores"])
    [('spark.executor.memroy', 'spark.executor.memory')]
    """
    found = ((name, get_close_matches(name, known, 1, _ALIKE)) for name in names if name not in known)
    return [(name, meant[0]) for name, meant in found if meant]


def _defaults(name: str, *, is_local: bool, brief: bool) -> dict[str, str]:
    defaults = {
        "spark.app.name": name,
        "spark.ui.showConsoleProgress": "false",
        # Since Spark 3.2 splits of length 0 are dropped silently, and HBase's are of length 0 where it does not know.
        "spark.hadoopRDD.ignoreEmptySplits": "false",
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "4",
        # An object counts for its size and 4 MB: seven or eight a task, which take a second or two.
        "spark.sql.files.maxPartitionBytes": "32m",
        # Otherwise a task for each object is started only to look how large it is.
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": "32",
    }
    if is_local:
        # All of it is on this machine: nobody else needs to reach it.
        here = {"spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
        defaults |= here | {"spark.executorEnv.PYTHONPATH": str(_PACKAGE.parent)}
        if brief:
            # Those that the user gives in spark.driver.extraJavaOptions come behind them, and go before them.
            defaults["spark.driver.defaultJavaOptions"] = _BRIEF_JAVA
    return defaults


def _silence(context: Any) -> None:
    """Keep stack traces from the screen that PySpark prints when its Java ends; whoever waits for that is told."""
    server = getattr(context, "_accumulatorServer", None)
    if server is not None:
        server.handle_error = lambda *_: _log.debug("Spark's Java has hung up")


def _zipped(folder: Path) -> Path:
    """Return this very package as a zip file that executors import from."""
    target = folder / "f1hbase.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(_PACKAGE.rglob("*.py")):
            archive.write(path, path.relative_to(_PACKAGE.parent))
    return target
