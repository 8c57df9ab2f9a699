"""Pure values and functions: visits, sessions, totals, watermarks, risk.

No I/O: nothing here uses Faust, Kafka, a clock or the environment. Columns are numpy arrays, times are epoch
milliseconds, and every function returns the same result for the same arguments.
"""
