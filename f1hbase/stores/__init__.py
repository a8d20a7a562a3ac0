"""What sources, destinations, state and readers share of one storage system."""
