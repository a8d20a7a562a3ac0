"""Compares what is stored with what the state says of it, and that with what was asked for."""
