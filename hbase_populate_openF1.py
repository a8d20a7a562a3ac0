"""Load Formula 1 data from the OpenF1 API into HBase: `python hbase_populate_openF1.py --help` says how."""

import sys

try:
    from f1hbase.cli.commands import main
except KeyboardInterrupt:  # the imports take half a second
    sys.exit(130)
except ModuleNotFoundError as error:
    sys.exit(
        f"f1hbase: the package '{error.name}' is not installed for {sys.executable}. Run scripts/setup.sh, then "
        ".venv/bin/python hbase_populate_openF1.py"
    )

if __name__ == "__main__":  # worker processes import this file, too
    main()
