"""Changes from the reading thread to the browsers: each gets what it may see, at once, and none waits for another."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field

from page.access.visitor import Visitor
from page.store.changed import Changed, Key
from page.web.hub import MOST, Hub


@dataclass
class _Changes:
    revision: int
    entries: Changed = field(default_factory=dict)
    new_day: bool = False
    today: int | None = None


def gone(*keys: Key) -> Changed:
    """Entries of which only the keys matter here."""
    return dict.fromkeys(keys)


async def test_a_listener_gets_what_the_visitor_sees_and_the_course_that_it_asked_for() -> None:
    hub = Hub()
    with (
        hub.listen(Visitor("all")) as everything,
        hub.listen(Visitor("ada", frozenset({1}))) as scoped,
        hub.listen(Visitor("all"), course=2) as one,
    ):
        hub.publish(_Changes(7, gone((10, 1), (11, 2), (12, 3))))
        assert (await everything.wait(1)).entries == gone((10, 1), (11, 2), (12, 3))
        assert (await scoped.wait(1)).entries == gone((10, 1))
        news = await one.wait(1)
        assert (news.revision, news.entries) == (7, gone((11, 2)))
        hub.publish(_Changes(8, gone((12, 3))))
        assert not await scoped.wait(0.02)


async def test_changes_of_another_thread_arrive_together() -> None:
    hub = Hub()
    with hub.listen(Visitor("all")) as listener:

        def read() -> None:
            for revision in range(1, 101):
                hub.publish(_Changes(revision, gone((revision % 10, 1))))

        thread = threading.Thread(target=read)
        thread.start()
        entries: set[Key] = set()
        revision = 0
        while revision < 100:
            news = await listener.wait(5)
            assert news, "the listener was not woken"
            entries |= news.entries.keys()
            revision = news.revision
        thread.join()
        assert len(entries) == 10


async def test_a_listener_that_is_far_behind_is_told_many_instead() -> None:
    hub = Hub()
    with hub.listen(Visitor("all")) as listener:
        hub.publish(_Changes(1, gone(*((student, 1) for student in range(MOST + 1)))))
        news = await listener.wait(1)
        assert (news.many, news.entries) == (True, {})
        hub.publish(_Changes(2, gone((1, 1))))
        assert (await listener.wait(1)).entries == gone((1, 1))
        hub.publish(_Changes(3, new_day=True))
        assert (await listener.wait(1)).many


async def test_closing_ends_streams_and_those_that_come_later() -> None:
    hub = Hub()
    with hub.listen(Visitor("all")) as listener:
        waiting = asyncio.ensure_future(listener.wait(60))
        await asyncio.sleep(0)
        hub.close()
        assert not await waiting
        assert listener.is_closed
    assert len(hub) == 0
    with hub.listen(Visitor("all")) as late:
        assert late.is_closed
