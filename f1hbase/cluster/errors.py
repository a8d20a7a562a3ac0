"""What goes wrong in Spark, on one line each with what to do about it; knows Spark by the shape of its errors alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from f1hbase.credentials import redacted
from f1hbase.errors import F1HBaseError

_MOST_CAUSES = 20
_LONGEST = 300

_JAVA_CLASSES = re.compile(r"^(?:Exception in thread \S+ )?(?:(?:[\w$]+\.)+[\w$]+(?:Exception|Error|Throwable)?: )+")

_UNCAUGHT = re.compile(
    r"^(?:Exception in thread|Caused by:|Terminating due to|.*Application has been killed|.*has exited unexpectedly).*",
    re.MULTILINE,
)
"""What Java prints of an error that ended one of its threads, or all of it, or of the end of the application."""

_STOPPED = "stopped SparkContext"
"""What an application says that has ended by itself; why, it has printed."""

_OF_JARS = (
    (
        re.compile(r"ClassNotFoundException: (?:Class )?(\S+)|NoClassDefFoundError: (\S+)"),
        ("Spark lacks the Java class {0}: name the jars of HBase with --spark-conf spark.jars=A.jar,B.jar, as "
        "'hbase mapredcp' lists them."),
    ),
    (
        re.compile(r"NoSuchMethodError|IncompatibleClassChangeError|UnsupportedClassVersionError|AbstractMethodError"),
        ("the jars of HBase are not those of this Spark or of this Java: name those of the cluster with --spark-conf "
        "spark.jars=A.jar,B.jar, as 'hbase mapredcp' lists them."),
    ),
)  # fmt: skip

_KNOWN = (
    (
        re.compile(r"Python in worker has different version \(?(\d+)[., ]+(\d+)\)? than that in driver ([\d.]+)"),
        (
            "the executors have Python {0}.{1}, this process {2}: name the same one for both with PYSPARK_PYTHON "
            "(docs/cluster.md)."
        ),
    ),
    (
        re.compile(r"(?:ModuleNotFoundError|No module named):?.*?'([\w.]+)'"),
        ("the executors' Python lacks the package '{0}': install f1hbase there with what it needs, or send an "
        "environment along (docs/cluster.md)."),
    ),
    (
        re.compile(r'Cannot run program "([^"]+)"'),
        "the executors cannot start '{0}': name a Python that is there with PYSPARK_PYTHON.",
    ),
    (
        re.compile(r"No space left on device|Disk quota exceeded|DSQuotaExceeded|could only be (?:replicated|written)"),
        ("there is no room left, in the staging folder or in Spark's own (spark.local.dir): free some, or name others "
        "with --spark-staging and --spark-conf spark.local.dir=FOLDER."),
    ),
    (
        re.compile(r"the staging folder is another one on this executor"),
        ("the executors do not see this machine's staging folder: name one that all machines have with "
        "--spark-staging, such as hdfs:///tmp/f1hbase."),
    ),
    (
        re.compile(r"No FileSystem for scheme \"?(\w+)"),
        ("this Spark knows no file system '{0}': name another folder with --spark-staging, or add the connector with "
        "--spark-conf spark.jars.packages=..."),
    ),
    (
        re.compile(r"TableNotEnabled|NotServingRegion|Table \S+ is not currently available"),
        ("HBase does not take files into all regions of the table, which is disabled or has a region that no server "
        "has open: see to it in hbase shell (enable, assign), and run it again."),
    ),
    (
        re.compile(r"Path does not exist: (\S+?)\.?(?:\s|$)|File (\S+) does not exist"),
        ("Spark does not find '{0}': folders of this machine are none of the executors', so load from a place that all "
        "machines have, such as s3://bucket/prefix; or it was deleted meanwhile."),
    ),
    (
        # Of what went wrong in a region server, its client learns nothing.
        re.compile(r"Retry attempted \d+ times without completing|Bulk load aborted with some files not yet loaded"),
        ("HBase has not taken the files, and says why in the logs of its region servers ('Failed to complete bulk "
        "load'). Most often its user may not move them: name a folder that it may with --spark-staging, or run this as "
        "HBase's user (HADOOP_USER_NAME=hbase)."),
    ),
    (
        re.compile(r'Permission denied: user=([^\s,]+), access=\w+, inode="([^"]+)"'),
        ("the user '{0}' may not write to '{1}': run this as one who may, such as HADOOP_USER_NAME=hbase, or name "
        "another folder with --spark-staging."),
    ),
    (
        re.compile(r"Insufficient permissions"),
        ("HBase does not let this user put files into the table: in hbase shell: grant 'USER', 'RWC', 'TABLE' (or run "
        "this as a user who may)."),
    ),
    (
        re.compile(r"Failed to create (?:local dir in|directory) (\S+?)(?:/blockmgr\S*)?[.\n]"),
        "Spark's own folder '{0}' cannot be written: name another with --spark-conf spark.local.dir=FOLDER.",
    ),
    (
        re.compile(r"Invalid (?:maximum|initial) heap size: -Xm[sx](\S+)"),
        "Java takes no memory of the size '{0}': write one such as --spark-conf spark.driver.memory=2g.",
    ),
    (
        re.compile(r"Could not reserve enough space|insufficient memory for the Java Runtime"),
        ("Spark is to have more memory than this machine has for it: give it less with --spark-conf "
        "spark.driver.memory=2g."),
    ),
    (
        re.compile(r"(spark\.[\w.]+) should be (.+), but was (.+)"),
        "--spark-conf {0}: it should be {1}, and not '{2}'.",
    ),
    (
        re.compile(r"either HADOOP_CONF_DIR or YARN_CONF_DIR must be set"),
        ("the environment does not say where YARN is: set HADOOP_CONF_DIR to the folder of its settings, such as "
        "/etc/hadoop/conf, or name another master with --spark-master."),
    ),
    (
        re.compile(r"YARN application has exited unexpectedly with state (\w+)"),
        ("YARN has ended Spark's application (state {0}): 'yarn application -list -appStates ALL' names it, and 'yarn "
        "logs -applicationId ID' says why."),
    ),
    (
        re.compile(r"must be at least \d+.*--driver-memory|System memory \d+ must be at least"),
        "Spark has too little memory to start: give it more with --spark-conf spark.driver.memory=1g.",
    ),
    (
        re.compile(r"OutOfMemoryError|exitCode: 143|Container killed|SparkOutOfMemory"),
        ("Spark has run out of memory: give it more with --spark-conf spark.executor.memory=4g (spark.driver.memory "
        "with a master local[N])."),
    ),
    (
        re.compile(r"Answer from Java side is empty|connect(?:ing)? to the Java server|Connection reset by peer"),
        (
            "Spark's Java has ended, killed or out of memory: run it again, with more memory by --spark-conf "
            "spark.driver.memory=4g if need be."
        ),
    ),
    *_OF_JARS,
    (
        re.compile(r"Connection to master failed|All masters are unresponsive|Could not parse Master URL|"
                   r"Master must either be yarn or start with"),
        "there is no such Spark master: see --spark-master.",
    ),
)  # fmt: skip


class SparkError(F1HBaseError):
    """Spark could not do it; the message says why and what to do."""


def explain(error: BaseException, printed: str = "") -> str:
    """Return why a call of Spark failed, on one line.

    Args:
        error: What PySpark or Py4J raised.
        printed: What Spark's Java has printed.
    """
    causes = [text for text in _causes(error) if text]
    advice = advice_for([*causes, *_uncaught(error, printed)])
    return advice or f"Spark failed: {_first_line(causes[-1] if causes else str(error))}"


def jars_problem(error: BaseException, printed: str = "") -> str | None:
    """Return what is wrong with the jars of HBase if a call of Spark failed for that, on one line."""
    return advice_for([*_causes(error), *_uncaught(error, printed)], _OF_JARS)


def last_words(printed: str) -> str:
    """Return why Spark's Java has ended, on one line, by what it has printed."""
    lines = [line for line in printed.splitlines() if line.strip()]
    wrong = [line for line in lines if "Error" in line or "Exception" in line]
    return advice_for([printed]) or _first_line((wrong or lines or ["its Java has ended without a word"])[0])


def is_told(error: BaseException) -> bool:
    """Return whether Java itself has said what is wrong."""
    return _java_error(error) is not None


def is_of_spark(error: BaseException | None) -> bool:
    """Return whether an error is Spark's or Py4J's, or came of one."""
    while error is not None:
        if type(error).__module__.startswith(("py4j", "pyspark")):
            return True
        error = error.__cause__ or error.__context__
    return False


def advice_for(texts: Sequence[str], known: Sequence[tuple[re.Pattern[str], str]] = _KNOWN) -> str | None:
    """Return what to do about an error that is known, by the texts of its causes, the root last."""
    for text in reversed(texts):
        for pattern, advice in known:
            if match := pattern.search(text):
                groups = [group for group in match.groups() if group]
                return advice.format(*groups) if groups or "{" not in advice else advice.replace(" {0}", "")
    return None


def _uncaught(error: BaseException, printed: str) -> list[str]:
    """Return what Java has printed of the end of one of its threads or of all, where it has told nothing of why."""
    tells = is_told(error) and not any(_STOPPED in text for text in _causes(error))
    return [] if tells or not is_of_spark(error) else _UNCAUGHT.findall(printed)


def _java_error(error: BaseException) -> Any:
    return getattr(error, "java_exception", None) or getattr(error, "_origin", None)


def _causes(error: BaseException) -> list[str]:
    """Return the texts of an error and its causes, the root last; of a Python error in a worker its last line."""
    java = _java_error(error)
    texts = [str(getattr(error, "desc", None) or error)]
    for _ in range(_MOST_CAUSES):
        if java is None:
            break
        texts.append(str(java.toString()))
        java = java.getCause()
    return texts


def _first_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()] or ["no reason given"]
    first = lines[0]
    if "Traceback (most recent call last)" in text:
        # The root of a failed Python worker is its traceback, the last line of which says what it was.
        first = next((line for line in reversed(lines) if line and not line[0].isspace()), first)
    return redacted(_JAVA_CLASSES.sub("", first.strip()) or first)[:_LONGEST]
