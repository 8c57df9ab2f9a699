"""The advisers' page of the demo: it shows what became of the students, too."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from app.settings import Settings
from stack.ports import is_free
from tools.e2e.page import Page
from tools.e2e.programs import free_port
from tools.replay import oulad

#: result of an enrolment in OULAD → the word on the page
WORDS = {"Withdrawn": "withdrew", "Fail": "failed", "Pass": "passed", "Distinction": "passed with distinction"}


def is_installed() -> bool:
    """Whether the packages of the extra `page` are there."""
    return all(find_spec(name) is not None for name in ("starlette", "uvicorn", "jinja2"))


def new_page(variables: Mapping[str, str], directory: Path) -> Page:
    """Return a page that is not started yet: on the default port if that is free.

    variables: RISK_ settings that the worker has too; directory: of its files.
    """
    outcomes = directory / "outcomes.csv"
    write_outcomes(outcomes)
    own = {
        "RISK_PAGE_PORT": str(port_or_free(Settings().page_port)),
        "RISK_PAGE_DATADIR": str(directory / "page"),
        "RISK_PAGE_OUTCOMES": str(outcomes),
        # the students are of 2013
        "RISK_PAGE_STALE_HOURS": "0",
    }
    # what is set for another page, on this machine, is not for the demo's
    unset = {name: "" for name in ("RISK_PAGE_USERS", "RISK_PAGE_USER_HEADER", "RISK_PAGE_PROXIES")}
    return Page({**variables, **unset, **own}, directory / "page.log")


def write_outcomes(path: Path) -> None:
    """Write how each enrolment of the shipped students ended: student, course, outcome."""
    enrolments = oulad.load_enrolments()
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(("student", "course", "outcome"))
        for student, presentation, result in zip(
            enrolments.student.tolist(), enrolments.presentation.tolist(), enrolments.result.tolist(), strict=True
        ):
            out.writerow((student, oulad.PRESENTATIONS[presentation].course, WORDS[result]))


def port_or_free(wanted: int) -> int:
    """Return a port if it is free, else another one."""
    return wanted if is_free(wanted) else free_port()
