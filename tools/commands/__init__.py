"""The commands of `faust -A app` that are not the worker's; app/commands registers them."""
