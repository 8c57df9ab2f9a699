"""State of the worker: tables in RocksDB and their changelogs, and the flush that writes both."""
