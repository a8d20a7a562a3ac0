"""Jolpica, the successor of Ergast, as a source: results, laps and standings since 1950, and how it is asked."""
