"""Operating a worker: checks before the start, watchdog, web endpoints, metrics, failpoints."""
