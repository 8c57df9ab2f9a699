"""Pure values and their algebra: visits, sessions, totals, clocks, risk.

Nothing here knows Faust, Kafka, a clock or the environment; arrays are numpy's, times are epoch
milliseconds, and every function gives the same answer for the same arguments.
"""
