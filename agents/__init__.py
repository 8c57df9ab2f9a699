"""The agents that Faust runs, one per file (repartition, process, alert), over plain functions.

An agent awaits its input and its log; the computations are functions that need no event loop:
`sessionize`, `models.totals.roll_up`, `score`. Nothing here depends on Faust or Kafka (see `agents.ports`).
"""
