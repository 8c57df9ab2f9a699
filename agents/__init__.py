"""What Faust runs: one agent a file (repartition, process, alert), over plain functions.

An agent awaits its input and its log; what it computes is in functions that need no event loop:
`sessionize`, `models.totals.roll_up`, `score`. Nothing here knows Faust or Kafka (see `agents.ports`).
"""
