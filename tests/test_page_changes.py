"""An open list hears of what has changed in it, and of nothing that its visitor may not see."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.assessment import Band
from page.access.visitor import Visitor
from page.reader.state import Phase, State
from page.store.apply import Changes
from page.store.changed import changed
from page.store.meta import read_meta
from page.web import changes
from page.web.hub import MOST
from tests.support.page_site import TODAY, Site, site


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Site]:
    """A site with students in two courses."""
    with site(tmp_path, Visitor("ada", frozenset({1}))) as page:
        for student in range(101, 106):
            page.add(student, 1 + student % 2)
        yield page


def revision(page: Site) -> int:
    """The database's."""
    return read_meta(page.services.database.read()).revision


def change(page: Site, student: int, course: int, **fields: object) -> int:
    """Change an entry as the reader does; return the revision."""
    page.add(student, course, **fields)
    entries = changed(page.services.database.read(), [(student, course)])
    page.services.hub.publish(Changes(revision(page), entries, TODAY))
    return revision(page)


async def test_a_list_hears_of_its_students(page: Site) -> None:
    now = revision(page)
    async with page.events(f"/changes?band=high&since={now}") as events:
        await events.next("banner")
        at = change(page, 102, 1, band=Band.HIGH, risk=8000)
        entries = {page.token(102): at}
        assert await events.next() == {"revision": at, "entries": entries, "left": {}, "many": False}
        at = change(page, 102, 1, band=Band.LOW, risk=3000)
        assert await events.next() == {
            "revision": at,
            "entries": {},
            "left": entries | {page.token(102): at},
            "many": False,
        }
    assert len(page.services.hub) == 0


async def test_a_visitor_hears_of_the_own_courses_only(page: Site) -> None:
    now = revision(page)
    async with page.events(f"/changes?since={now - 1}", "ada") as events:
        await events.next("banner")
        change(page, 101, 2)
        at = change(page, 104, 1)
        assert await events.next() == {"revision": at, "entries": {page.token(104): at}, "left": {}, "many": False}


@pytest.mark.parametrize("way", ["since", "last-event-id"])
async def test_what_was_missed_is_told_first(page: Site, way: str) -> None:
    before = revision(page)
    page.add(103, 2)
    since, last = (before, "") if way == "since" else (1, str(before))
    async with page.events(f"/changes?since={since}", last_event_id=last) as events:
        told = await events.next()
        assert (told["entries"], told["many"]) == ({page.token(103, 2): before + 1}, False)


async def test_a_list_of_a_database_that_was_built_again_is_told_many(page: Site) -> None:
    async with page.events("/changes?since=1000000") as events:
        assert (await events.next())["many"]


async def test_who_is_far_behind_is_told_many(page: Site) -> None:
    async with page.events(f"/changes?since={revision(page)}") as events:
        await events.next("banner")
        page.services.hub.publish(Changes(revision(page), {(student, 1): None for student in range(MOST + 1)}))
        told = await events.next()
        assert (told["entries"], told["many"]) == ({}, True)


async def test_changes_come_at_once_and_then_together(page: Site) -> None:
    loop = asyncio.get_running_loop()
    async with page.events(f"/changes?since={revision(page)}") as events:
        await events.next("banner")
        began = loop.time()
        change(page, 101, 2)
        assert len((await events.next())["entries"]) == 1
        assert loop.time() - began < changes._PAUSE_S  # noqa: SLF001
        for student in (102, 104):
            change(page, student, 1)
        assert len((await events.next())["entries"]) == 2


async def test_the_banner_comes_and_goes(page: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "_IDLE_S", 0.05)
    page.reader.state = State(Phase.LOADING, 0.5)
    async with page.events("/changes") as events:
        assert "50&nbsp;% is read" in (await events.next("banner"))["html"]
        page.reader.state = State(Phase.LIVE, 1.0, is_complete=True)
        assert await events.next("banner") == {"html": ""}
        assert (await events.next())["many"], "what was loaded is not in the list"


async def test_streams_end_when_the_page_does(page: Site) -> None:
    async with page.events("/changes") as events:
        await events.next("banner")
        page.services.hub.close()
