"""People who read the advisers' page: a child process of bench/page.py.

Each opens lists and students in turn, with time to read in between, while its browser listens to the changes of the
list. Emits one line of JSON: the times of lists and student pages, from the request to the last byte [ms].
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import time
from collections import defaultdict
from contextlib import suppress

import httpx

from bench.child_process import emit

#: time that a reader looks at a page [s]
READING_S = (0.3, 1.7)
_LISTS = ("/", "/?course={course}", "/?band=high", "/?sort=change", "/?alert=1&course={course}", "/?silent=14&page=2")


class Reader:
    """One person: lists in turn, and of each list a student."""

    def __init__(
        self, client: httpx.AsyncClient, courses: int, seed: int, end: float, times: dict[str, list[float]]
    ) -> None:
        self._client, self._courses, self._end, self._times = client, courses, end, times
        self._events = 0
        self._choose = random.Random(seed)

    async def read(self) -> int:
        """Read until the time has come; return the number of events that the browser has got meanwhile."""
        listening = asyncio.create_task(self._listen())
        await asyncio.sleep(self._choose.uniform(0, READING_S[1]))
        while time.monotonic() < self._end:
            address = self._choose.choice(_LISTS).format(course=self._choose.randrange(self._courses) + 2)
            text = await self._get("list", address)
            if found := re.findall(r'href="(/student/[\w.-]+)"', text):
                await self._get("student", self._choose.choice(found))
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening
        return self._events

    async def _get(self, kind: str, address: str) -> str:
        began = time.perf_counter()
        answer = await self._client.get(address)
        answer.raise_for_status()
        self._times[kind].append(1000 * (time.perf_counter() - began))
        await asyncio.sleep(self._choose.uniform(*READING_S))
        return answer.text

    async def _listen(self) -> None:
        async with self._client.stream("GET", "/changes", timeout=None) as answer:
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                self._events += line.startswith("event: changes")


async def run(url: str, readers: int, seconds: float, courses: int) -> None:
    """Let them read, and emit what they have seen."""
    times: dict[str, list[float]] = defaultdict(list)
    # two connections each, as a browser has: one is the stream
    limits = httpx.Limits(max_connections=2 * readers, max_keepalive_connections=2 * readers)
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60.0, limits=limits) as client:
        end = time.monotonic() + seconds
        events = await asyncio.gather(*(Reader(client, courses, seed, end, times).read() for seed in range(readers)))
    emit(times=times, events=sum(events))


def main() -> None:
    """Run as a child process."""
    parser = argparse.ArgumentParser(prog="python -m bench.page_readers", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("readers", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("courses", type=int)
    asyncio.run(run(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
