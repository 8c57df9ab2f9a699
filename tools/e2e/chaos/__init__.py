"""Fault injection while a log with a known result is read, followed by a comparison with the oracle: `make chaos`."""
