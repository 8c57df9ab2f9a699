"""Scenarios with workers that a module plays concurrently, since most of each is waiting."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.cluster import Deployment

Scenario = Callable[[Deployment], None]


class Scenarios(dict[str, Scenario]):
    """The scenarios of a module by name; the parameters `name` of one test. Mutable: `register` adds to it."""

    def register(self, scenario: Scenario) -> Scenario:
        """Add a scenario; a decorator."""
        self[scenario.__name__] = scenario
        return scenario

    def selected(self, request: pytest.FixtureRequest) -> list[str]:
        """Return the names of those for which a test is about to run."""
        params = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
        return [p["name"] for p in params if p.get("name") in self]
