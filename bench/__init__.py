"""Benchmarks: `make bench` measures the app and other programs side by side, in one session on one machine."""
