"""The commands of `faust -A app` that the worker does not need; app/commands registers them by name."""
