"""Measures f1hbase beside HBase's own limit and the naive way, in one run: `benchmarks/run.sh --help`."""
