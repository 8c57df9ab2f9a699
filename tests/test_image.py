"""The worker's container image, built without Docker: the Dockerfile's files, and what they need and can do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import distributions, packages_distributions, requires
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
COPIED = [
    path
    for sources in re.findall(r"^COPY ((?!--from).*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    for path in sources.split()
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    """The wheel that `pip install .` builds from what the Dockerfile copies."""
    source = tmp_path_factory.mktemp("source")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    # without isolation, pip downloads nothing: setuptools is in the test extra
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--quiet", "."]
    subprocess.run(command, cwd=source, check=True, timeout=120)
    (path,) = source.glob("*.whl")
    return ZipFile(path)


@pytest.fixture(scope="module")
def installed(wheel: ZipFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, unpacked."""
    directory = tmp_path_factory.mktemp("installed")
    wheel.extractall(directory)
    return directory


def test_the_image_has_the_worker_and_its_data_and_nothing_else(wheel: ZipFile) -> None:
    names = wheel.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"models", "codec", "agents", "app"}
    assert {"app/data/model-v1.json", "models/py.typed"} <= set(names)
    assert any(name.endswith("/entry_points.txt") for name in names)
    assert any(name.endswith("/LICENSE") for name in names)


def test_the_worker_does_not_run_as_root() -> None:
    """Its user is a number, because Kubernetes cannot tell whether a name is root."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert "USER 10001" in lines
    assert any(line.startswith("RUN useradd --uid 10001 ") and "-g root -m 775 /data" in line for line in lines)


def dependencies(lines: Iterable[str], extras: Iterable[str] = ()) -> Iterator[str]:
    """Names of the distributions that pip installs for a distribution's requirements."""
    for requirement in map(Requirement, lines):
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in ("", *extras)):
            yield canonicalize_name(requirement.name)
            yield from dependencies(requires(requirement.name) or [], requirement.extras)


def faust(
    installed: Path, *arguments: str, prefix: Iterable[str] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `faust -A app` on the unpacked wheel, with only the packages that pip installs for it.

    prefix: a command that runs another one.
    """
    (worker,) = distributions(path=[str(installed)])
    kept = set(dependencies(worker.requires or []))
    hidden = {
        module
        for module, owners in packages_distributions().items()
        if module.isidentifier() and not kept & {canonicalize_name(name) for name in owners}
    }
    hidden |= {path.name for path in ROOT.iterdir()}
    hidden -= {path.name for path in installed.iterdir()}
    script = (
        f"import runpy, sys; sys.path.insert(0, {str(installed)!r}); sys.modules.update(dict.fromkeys({hidden!r}));"
        f"sys.argv[1:] = {['-A', 'app', *arguments]!r}; runpy.run_module('faust', run_name='__main__')"
    )
    command = [*prefix, sys.executable, "-c", script]
    return subprocess.run(
        command,
        cwd=installed,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_settings_are_listed(installed: Path) -> None:
    done = faust(installed, "settings")
    assert done.returncode == 0, done.stderr
    assert "RISK_BROKER" in done.stdout


def test_the_worker_starts_up_to_the_broker(installed: Path, tmp_path: Path) -> None:
    """Preflight, its first step, ends it with one line where no broker answers."""
    broker = "127.0.0.1:1"
    done = faust(installed, "worker", RISK_BROKER=broker, RISK_DATADIR=str(tmp_path))
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if broker in line], done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root can run a program as another user")
def test_any_user_id_will_do(installed: Path, tmp_path: Path) -> None:
    """OpenShift's user ids have no entry in /etc/passwd; their home is what the image says, and group 0 may write."""
    data = tmp_path / "data"
    data.mkdir()
    os.chown(data, 10001, 0)
    data.chmod(0o775)
    # the right to read everything stands for an image whose files everybody may read
    capabilities = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    user = ("setpriv", "--reuid=1000660000", "--regid=0", "--clear-groups", *capabilities)
    environment = {"RISK_BROKER": "127.0.0.1:1", "RISK_DATADIR": str(data), "HOME": str(data)}
    done = faust(installed, "worker", prefix=user, **environment)
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if "no Kafka broker answers" in line], done.stderr
    assert "Traceback" not in done.stderr
    data.chmod(0o700)
    assert "RISK_DATADIR" in faust(installed, "worker", prefix=user, **environment).stderr


def test_a_command_of_tools_names_the_extra_to_install(installed: Path) -> None:
    done = faust(installed, "demo")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "pip install 'moodle-risk[tools" in line
