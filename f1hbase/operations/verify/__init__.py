"""Compares what is stored with what the state says of it."""
