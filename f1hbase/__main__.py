"""`python -m f1hbase` is the same as `f1hbase`."""

from f1hbase.cli.commands import main

if __name__ == "__main__":
    main()
