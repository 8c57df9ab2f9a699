"""Everything that is not the worker: replay, parity, training, the demo, end-to-end checks, and their commands."""
