"""Scenarios with workers that a module plays concurrently, since most of each is waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

import stack
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

    def playing(
        self,
        request: pytest.FixtureRequest,
        cluster: stack.Environment,
        tmp_path_factory: pytest.TempPathFactory,
        **settings: str,
    ) -> Iterator[dict[str, Future[None]]]:
        """Play the selected ones at the same time, each with a deployment of its own; the body of a fixture."""
        names = self.selected(request)
        deployments = {name: Deployment.new(cluster, tmp_path_factory.mktemp(name[:20]), **settings) for name in names}
        with ThreadPoolExecutor(len(names)) as pool:
            yield {name: pool.submit(self[name], deployment) for name, deployment in deployments.items()}
