"""Records as they happen: from a feed, through a queue that never blocks it, into a destination."""
