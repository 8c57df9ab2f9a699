"""Real students through the whole pipeline, live on a terminal: `make demo`."""
