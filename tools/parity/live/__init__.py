"""Comparison of two sets of output topics on one cluster: `faust -A app parity --live`."""
