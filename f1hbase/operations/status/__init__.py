"""What is loaded, what failed and why, and how long the rest takes, by season, meeting and session."""

from f1hbase.operations.status.judging import ScopeStatus, judge
from f1hbase.operations.status.lines import status_json, status_lines
from f1hbase.operations.status.reading import Overview, Pace, StatusReader

__all__ = ["Overview", "Pace", "ScopeStatus", "StatusReader", "judge", "status_json", "status_lines"]
