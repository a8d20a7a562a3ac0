"""Runs ``python -m f1hbase.replay``."""

from f1hbase.replay.cli import main

if __name__ == "__main__":
    main(prog_name="python -m f1hbase.replay")
