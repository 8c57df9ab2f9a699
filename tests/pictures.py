"""Draw the pictures of docs/adviser.md: the real page over a real worker, with students of OULAD. `make pictures`.

Two courses run for six weeks, and two advisers have worked on some cases. Needs Debian's chromium.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser
from playwright.sync_api import Page as Tab

import stack
from app.kafka.topics import wanted
from tests.support.cluster import Deployment, run_async
from tests.support.page import Site, Visit, aside, chromium, running_page, users_file, visit
from tools.replay import oulad
from tools.replay.sender import prepare, produce

DOCS = Path(__file__).parents[1] / "docs"
#: of the two courses, and their last day that is replayed
PRESENTATIONS, LAST_DAY = ["AAA-2013J", "BBB-2013J"], 38
#: time for the worker to process the log [s]
_WORKER_S = 600.0
#: time for the page to read its topics [s]
_LOADING_S = 300.0
_PASSWORD = "only for pictures"
#: what advisers have done, with the students at the top of the list: who, button, note
ACTIONS = (
    ("john", "Acknowledge", ""),
    ("mary", "Not applicable", "Has deferred to next year."),
    ("john", "Assign to me", ""),
    ("mary", "Flagged wrongly", "Works offline with the printed book."),
)


def replay(deployment: Deployment) -> None:
    """Let a worker process the log."""
    rows = oulad.generate(PRESENTATIONS, last_day=LAST_DAY)

    async def send() -> None:
        await produce(await prepare(deployment.settings, rows, partitions=1))

    run_async(send())
    deployment.declare(*wanted(deployment.names, 1))
    with deployment.worker(forked=False, RISK_BATCH_ROWS="40000") as worker:
        worker.wait_idle(timeout=_WORKER_S, events=len(rows))


def draw(site: Site, browser: Browser, directory: Path) -> None:
    """Act as two advisers, and photograph the views."""
    with (
        visit(browser, viewport={"width": 1280, "height": 860}) as mary,
        visit(browser, viewport={"width": 1280, "height": 860}) as john,
        visit(browser, viewport={"width": 390, "height": 800}, device_scale_factor=2, color_scheme="dark") as phone,
    ):
        for name, seen in (("mary", mary), ("john", john), ("mary", phone)):
            seen.log_in(site, name, _PASSWORD)
        visits = {"mary": mary, "john": john}
        for address, (name, button, note) in zip(_addresses(mary.goto(f"{site.url}/?alert=1")), ACTIONS, strict=False):
            _act(visits[name].goto(site.url + address), button, note)
        tab = mary.goto(f"{site.url}/")
        _shoot(tab, directory / "students.png")
        # one with a history: whose risk has risen most
        tab = mary.goto(site.url + _addresses(mary.goto(f"{site.url}/?alert=1&sort=change"))[0])
        _act(tab, "Assign to me", "")
        _act(tab, "Contacted", "Rang. Was ill for two weeks, starts again on Monday.")
        _shoot(tab, directory / "student.png", full_page=True)
        _refuse(site, mary, john, directory / "refused.png")
        _shoot(
            mary.goto(f"{site.url}/course/{oulad.select_presentations(['BBB-2013J'])[0].course}"),
            directory / "course.png",
            full_page=True,
        )
        _shoot(phone.goto(f"{site.url}/?alert=1"), directory / "phone.png")


def _act(tab: Tab, button: str, note: str) -> None:
    """Fill in the form of a case, and send it."""
    tab.get_by_label("Note").fill(note)
    with tab.expect_navigation():
        tab.get_by_role("button", name=button, exact=True).click()
    tab.get_by_text("Recorded: you").wait_for()


def _refuse(site: Site, mary: Visit, john: Visit, path: Path) -> None:
    """Mary sends a form that John's action has made stale."""
    address = _addresses(mary.goto(f"{site.url}/?alert=1&state=open"))[0]
    tab = mary.goto(site.url + address)
    _act(john.goto(site.url + address), "Contacted", "Answered my mail.")
    tab.get_by_label("Note").fill("Wrote an email.")
    tab.get_by_role("button", name="Contacted").click()
    tab.get_by_role("alert").wait_for()
    _shoot(tab, path)


def _addresses(tab: Tab) -> list[str]:
    return [str(a.get_attribute("href")) for a in tab.locator("table.students tbody th a").all()]


def _shoot(tab: Tab, path: Path, *, full_page: bool = False) -> None:
    """Write a picture, without what differs from run to run: the focus and the mouse."""
    tab.evaluate("document.activeElement?.blur()")
    tab.mouse.move(0, 0)
    png = tab.screenshot(full_page=full_page, animations="disabled", caret="hide")
    # a palette is a third of the size, and enough for few colours
    Image.open(BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    """Start everything, draw, stop everything."""
    parser = argparse.ArgumentParser(prog="python -m tests.pictures", description=__doc__)
    parser.add_argument("--directory", type=Path, default=DOCS / "page", help="where to write")
    directory = parser.parse_args().directory
    directory.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="moodle-risk-pictures-") as path:
        temporary = Path(path)
        servers = stack.up(temporary / "stack", owner_pid=os.getpid())
        try:
            users = users_file(temporary / "users", {name: (_PASSWORD, None) for name in ("mary", "john")})
            variables = {"RISK_MODEL": "", "RISK_PAGE_STALE_HOURS": "0", "RISK_PAGE_USERS": str(users)}
            deployment = Deployment.new(servers, temporary, **variables, RISK_MOODLE_URL="https://moodle.example.edu")
            replay(deployment)
            with chromium() as browser, running_page(deployment, timeout=_LOADING_S) as page:
                draw(Site(deployment, page), browser, directory)
        finally:
            aside(stack.down, temporary / "stack")


if __name__ == "__main__":
    main()
