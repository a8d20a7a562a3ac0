"""What a record, a session, a unit of work and its window are; knows no source, no store and no command line."""
