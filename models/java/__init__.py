"""Numbers and text as Java reads and writes them: KSQL 5.3 runs on a JDK before 19."""
