"""What a run measures of itself, and how others get to see it: names, counts and histograms, exporters."""
