"""What is stored, as people work with it: sessions, laps and telemetry as Arrow tables."""
