"""Benchmarks: `make bench` measures the figures of the README in one session on one machine."""
