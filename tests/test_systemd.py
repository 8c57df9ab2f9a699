"""deploy/systemd: valid, hardened units, whose settings exist."""

from __future__ import annotations

import re
import shutil
from dataclasses import fields
from pathlib import Path

import pytest

from app.ops.watchdog import STOP_S
from app.settings import Settings
from tests.support.programs import require, run

FOLDER = Path(__file__).parents[1] / "deploy" / "systemd"
UNIT = (FOLDER / "moodle-risk@.service").read_text()
PAGE = (FOLDER / "moodle-risk-page.service").read_text()
#: highest exposure that `systemd-analyze security` may find, of 100
EXPOSURE = 15


@pytest.fixture(scope="module")
def analyze() -> str:
    return require("systemd-analyze", "systemd")


@pytest.fixture(params=["moodle-risk@1.service", "moodle-risk-page.service"])
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The unit of worker 1, with its credentials, or of the page, with a program that exists on this machine."""
    unit = tmp_path / str(request.param)
    text = PAGE if "page" in unit.name else UNIT
    unit.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={shutil.which('true')}", text, flags=re.MULTILINE))
    drop_ins = tmp_path / "moodle-risk@.service.d"
    drop_ins.mkdir()
    shutil.copy(FOLDER / "credentials.conf", drop_ins)
    return unit


def test_the_unit_is_valid(analyze: str, instance: Path) -> None:
    """Without a warning, e.g. of an option that this systemd does not know."""
    assert run(analyze, "verify", "--man=no", "--recursive-errors=no", str(instance)) == ""


def test_the_unit_is_hardened(analyze: str, instance: Path) -> None:
    run(analyze, "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", str(instance))


def options(text: str, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)


def test_the_settings_exist() -> None:
    variables = {f.metadata["variable"] for f in fields(Settings)}
    texts = [path.read_text() for path in FOLDER.iterdir() if path.suffix != ".md"]
    named = {name for text in texts for name in re.findall(r"\bRISK_\w+", text)}
    assert {"RISK_DATADIR", "RISK_WEB_PORT", "RISK_BROKER"} <= named <= variables


def test_the_examples_are_settings_that_a_worker_accepts() -> None:
    lines = [*options(UNIT, "Environment"), *(FOLDER / "worker.env").read_text().splitlines()]
    environment = dict(line.replace("%i", "2").split("=", 1) for line in lines if line and not line.startswith("#"))
    settings = Settings.from_env(environment)
    assert (settings.unit_ms, settings.web_port) == (1000, 6062)


def test_the_example_of_the_page_is_accepted_and_has_what_the_unit_names() -> None:
    lines = (FOLDER / "page.env").read_text().splitlines()
    environment = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    own = dict(value.split("=", 1) for value in options(PAGE, "Environment"))
    settings = Settings.from_env(environment | own)
    assert not settings.page_is_open
    (credential,) = options(PAGE, "LoadCredential")
    assert own["RISK_PAGE_USERS"] == f"%d/{credential.partition(':')[0]}"
    (directory,) = options(PAGE, "StateDirectory")
    assert own["RISK_PAGE_DATADIR"] == f"%S/{directory}"
    assert options(PAGE, "EnvironmentFile") == ["/etc/moodle-risk/page.env"]


def test_the_page_is_as_confined_as_a_worker() -> None:
    begin = "NoNewPrivileges=yes"
    assert PAGE[PAGE.index(begin) :] == UNIT[UNIT.index(begin) :]


def test_each_worker_has_its_own_directory_and_settings() -> None:
    for name in ("WorkingDirectory", "StateDirectory"):
        assert all("%i" in value for value in options(UNIT, name))
    assert "RISK_DATADIR=%S/moodle-risk/%i" in options(UNIT, "Environment")
    files = options(UNIT, "EnvironmentFile")
    assert [Path(value).name for value in files] == ["worker.env", "worker-%i.env"]
    assert [value.startswith("-") for value in files] == [False, True]  # the second may be missing


@pytest.mark.parametrize("unit", [UNIT, PAGE])
def test_each_has_time_to_stop_and_is_always_started_again(unit: str) -> None:
    assert (options(unit, "Restart"), options(unit, "StartLimitIntervalSec")) == (["always"], ["0"])
    (stop,) = options(unit, "TimeoutStopSec")
    assert int(stop) >= STOP_S + 5
