"""A worker loads nothing but what it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.support.cluster import TIMEOUT_S
from tools.e2e.workers import ROOT, free_port

#: `faust -A app worker` in this process, which prints the names of all loaded modules when it exits
CODE = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules))))
sys.argv = ["faust", "-A", "app", "worker"]
from faust.cli.faust import cli
cli()
"""


@pytest.mark.parametrize("package", ["page", "tools", "stack", "bench", "tests"])
def test_a_worker_loads_no_module_of_page_or_tools(package: str, loaded_modules: set[str]) -> None:
    """Neither the commands beside `worker` nor the servers of demo and tests are imported."""
    assert sorted(name for name in loaded_modules if name.partition(".")[0] == package) == []


@pytest.fixture(scope="module")
def loaded_modules(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The modules of a worker that ends in preflight, since no broker answers: by then everything is imported."""
    settings = {
        "RISK_BROKER": f"127.0.0.1:{free_port()}",
        "RISK_DATADIR": str(tmp_path_factory.mktemp("data")),
        "RISK_WEB_PORT": str(free_port()),
    }
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, **settings},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "RISK_BROKER" in done.stderr
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    assert {"app.worker", "app.ops.preflight", "agents.process"} <= modules
    return modules
