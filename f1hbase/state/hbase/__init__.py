"""State in the table `f1_reports`."""
