"""Number formats as Java reads and writes them, which KSQL 5.3 runs on."""
