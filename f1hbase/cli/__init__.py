"""The command line: commands, options, progress, log lines; the only place that prints."""


def main() -> None:
    """Run the command line."""
    from f1hbase.cli.commands import main as run

    run()
