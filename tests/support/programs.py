"""Programs that a machine may lack: .ci/run installs them, so that nothing is skipped there."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest


def require(program: str, package: str) -> str:
    """Return the path of a program; without it, skip the test, or fail it in CI. package: Debian's name."""
    path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/bin:/usr/sbin")
    if path is not None:
        return path
    missing = f"no {program}: install the package {package}"
    if os.environ.get("CI"):
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)


def run(*command: str, stdin: str = "") -> str:
    """Run a command that must succeed; return stdout and stderr together."""
    done = subprocess.run(
        command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
