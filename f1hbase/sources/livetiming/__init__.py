"""F1's own live timing service: its archive, its messages, and the records they become."""
