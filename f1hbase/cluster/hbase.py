"""HBase as Spark's Java sees it: its settings, connections to it, whether it is the one that is meant.

All by public classes of HBase and Hadoop.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from f1hbase.cluster.errors import SparkError, explain, jars_problem
from f1hbase.cluster.session import SparkApplication
from f1hbase.errors import ConfigError, UnreachableError
from f1hbase.stores.hbase.shell import disabled

_SITE = "hbase-site.xml"
_SITE_FOLDER = "/etc/hbase/conf"
"""Where clusters keep HBase's settings, unless HBASE_CONF_DIR says another folder."""

_IMPATIENT = {
    "hbase.client.retries.number": "3",
    "hbase.client.operation.timeout": "30000",
    "hbase.client.meta.operation.timeout": "30000",
    "zookeeper.recovery.retry": "1",
    "zookeeper.recovery.retry.intervalmill": "200",
}
"""At the start HBase is there or it is not."""


class HBaseByJava:
    """HBase by its Java classes.

    Args:
        spark: The application.

    Attributes:
        quorum: Where its ZooKeeper is.
    """

    def __init__(self, spark: SparkApplication) -> None:
        self._spark = spark
        self._hadoop = spark.context._jsc.hadoopConfiguration()
        self._conf = self._configuration()
        self.quorum = (
            f"{self._conf.get('hbase.zookeeper.quorum')}:{self._conf.get('hbase.zookeeper.property.clientPort')}"
        )

    def written_at(self, table: str, row: bytes) -> int:
        """Return when HBase last wrote to a row that its gateway has, by its server's clock, in ms since 1970.

        It proves that Spark's Java and the gateway see one HBase.

        Raises:
            SparkError: If it lacks classes of HBase.
            UnreachableError: If Spark's Java does not reach HBase.
            ConfigError: If it sees another HBase, which has not that row.
        """
        quorum = "spark.hadoop.hbase.zookeeper.quorum=HOST and spark.hadoop.hbase.zookeeper.property.clientPort=PORT"
        how = f"Name the right one with --spark-conf {quorum}, or HBase's settings with HBASE_CONF_DIR."
        try:
            written_at = self._written_at(table, row)
        except SparkError:
            raise
        except Exception as error:
            if problem := jars_problem(error, self._spark.printed):
                raise SparkError(problem) from error
            reason = explain(error, self._spark.printed)
            raise UnreachableError(
                f"Spark does not reach HBase by its ZooKeeper at {self.quorum} ({reason}). {how}"
            ) from error
        if written_at is None:
            raise ConfigError(
                f"the HBase that Spark sees, by its ZooKeeper at {self.quorum}, is not the one of the Thrift gateway: "
                f"{row.decode(errors='backslashreplace').replace('#', ' ')} is not in its table '{table}'. {how}"
            )
        return written_at

    def _written_at(self, table: str, row: bytes) -> int | None:
        connection = self._connect()
        try:
            name = self._table_name(table)
            if not connection.getAdmin().tableExists(name):
                return None
            get = self._spark.java_class("org.apache.hadoop.hbase.client.Get")(row)
            cells = connection.getTable(name).get(get).listCells()
            return None if cells is None else max(int(cell.getTimestamp()) for cell in cells)
        finally:
            connection.close()

    def _check_enabled(self, admin: Any, table: str) -> None:
        if not admin.isTableEnabled(self._table_name(table)):
            raise SparkError(f"{disabled(table)}.")

    def _table_name(self, table: str) -> Any:
        return self._spark.java_class("org.apache.hadoop.hbase.TableName").valueOf(table)

    def _configuration(self) -> Any:
        conf = self._spark.java_class("org.apache.hadoop.hbase.HBaseConfiguration").create()
        site = Path(os.environ.get("HBASE_CONF_DIR") or _SITE_FOLDER) / _SITE
        if site.is_file():
            conf.addResource(self._spark.java_class("org.apache.hadoop.fs.Path")(site.as_uri()))
        # What Spark was told (spark.hadoop.*) goes before what is in files.
        self._spark.java_class("org.apache.hadoop.hbase.HBaseConfiguration").merge(conf, self._hadoop)
        return conf

    def _connect(self) -> Any:
        conf = self._spark.java_class("org.apache.hadoop.conf.Configuration")(self._conf)
        for key, value in _IMPATIENT.items():
            conf.set(key, value)
        return self._spark.java_class("org.apache.hadoop.hbase.client.ConnectionFactory").createConnection(conf)
