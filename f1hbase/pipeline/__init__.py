"""From a plan to stored units: one process a meeting, records normalised and accounted once for all destinations."""
