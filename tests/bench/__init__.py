"""`make bench`: every promise that is a figure, measured; each one a ratio inside one run."""
