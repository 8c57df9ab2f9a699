"""The container images of worker and page, built without Docker: the Dockerfile's files, what they need and can do."""

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
#: stage of the Dockerfile → the one it begins with, and its lines
STAGES = {
    name: (base, body)
    for base, name, body in re.findall(
        r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", (ROOT / "Dockerfile").read_text(), re.MULTILINE | re.DOTALL
    )
}


def copied(stage: str) -> list[str]:
    """The files and folders of the repository that are copied in a stage, and in those it begins with."""
    if stage not in STAGES:
        return []
    base, body = STAGES[stage]
    sources = re.findall(r"^COPY ((?!--from).*) \S+$", body, re.MULTILINE)
    return copied(base) + [path for group in sources for path in group.split()]


def build(stage: str, source: Path) -> ZipFile:
    """The wheel that `pip install .` builds from what a stage of the Dockerfile copies."""
    for name in copied(stage):
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
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    """The worker's wheel."""
    return build("build", tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The content of the page's wheel, unpacked."""
    directory = tmp_path_factory.mktemp("page")
    build("build-page", tmp_path_factory.mktemp("source")).extractall(directory)
    return directory


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
    installed: Path, *arguments: str, extras: Iterable[str] = (), prefix: Iterable[str] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `faust -A app` on the unpacked wheel, with only the packages that pip installs for it and its `extras`.

    prefix: a command that runs another one.
    """
    (package,) = distributions(path=[str(installed)])
    kept = set(dependencies(package.requires or [], extras))
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


def test_the_image_of_the_page_has_its_templates_and_what_browsers_get(page: Path) -> None:
    """Every file of page/ that is in the repository, and the page with its extra starts up to the broker."""
    files = subprocess.run(["git", "ls-files", "page"], cwd=ROOT, capture_output=True, text=True, check=True)
    missing = [name for name in files.stdout.splitlines() if not (page / name).is_file()]
    assert missing == []
    assert {path.name for path in page.iterdir() if not path.name.endswith(".dist-info")} == {
        *("models", "codec", "agents", "app", "page")
    }


def test_the_page_starts_up_to_the_broker(page: Path, tmp_path: Path) -> None:
    broker = "127.0.0.1:1"
    done = faust(page, "page", extras=["page"], RISK_BROKER=broker, RISK_PAGE_DATADIR=str(tmp_path))
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if broker in line], done.stderr
    assert "Traceback" not in done.stderr


def test_without_its_extra_the_page_says_what_to_install(page: Path) -> None:
    done = faust(page, "page")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "pip install 'moodle-risk[page]'" in line


def test_a_command_of_tools_names_the_extra_to_install(installed: Path) -> None:
    done = faust(installed, "demo")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "pip install 'moodle-risk[tools" in line
