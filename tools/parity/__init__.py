"""KSQL's output against the app's: recorded cases, and two sets of topics on one cluster."""
