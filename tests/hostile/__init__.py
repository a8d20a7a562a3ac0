"""Hostile answers, connections, settings, files and gateways, by seed: see `python -m tests.hostile --help`."""
