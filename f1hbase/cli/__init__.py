"""The command line: commands, options, progress, log lines; the only place that prints."""
