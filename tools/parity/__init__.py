"""Comparison of KSQL's output with the app's: from recorded cases, and between topics on one cluster."""
