"""How much work property tests and fuzzing do: one factor for all of them, from the environment.

1, the default, is what a test states; `make test` and `make check` run with less (Makefile).
"""

from __future__ import annotations

import os

EFFORT = float(os.environ.get("TEST_EFFORT") or 1)
#: fewest examples of a property, and fewest damaged inputs of a kind, at any effort
_FEWEST_EXAMPLES = 10
_FEWEST_MUTANTS = 500


def examples(full: int) -> int:
    """Number of examples of a property, of which there are `full` at effort 1."""
    return max(round(full * EFFORT), _FEWEST_EXAMPLES)


def mutants(full: int) -> int:
    """Number of damaged inputs, of which there are `full` at effort 1."""
    return max(round(full * EFFORT), _FEWEST_MUTANTS)
