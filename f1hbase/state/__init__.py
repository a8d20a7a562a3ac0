"""What is done, by whom, and what is in quarantine."""
