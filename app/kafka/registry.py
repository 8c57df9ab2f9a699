"""Writer schemas from a schema registry (Confluent's API), each asked for once.

The client's own lookups are not used: `get_schema` answers None for a server error as it does for a
missing subject, `get_by_id` stumbles over an answer that is not JSON, and both rewrite the schema. Its
`request` gives the plain answer.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import quote, urlsplit

import httpx
from schema_registry.client import AsyncSchemaRegistryClient

from app.errors import ConfigError
from codec.avro_schema import Json

log = logging.getLogger(__name__)

#: how long an id that the registry did not know is not asked for again [s]
UNKNOWN_FOR_S = 30.0
#: unknown ids kept at most: damaged records may hold any number
MOST_UNKNOWN = 10_000
#: wait before the second try [s], doubled at each further one, up to the last number
RETRY_S = (0.25, 30.0)
#: how long one answer may take [s]
TIMEOUT_S = 10.0
#: answers that a later try may better: everything of the server's, and these of the client's
_PASSING = (408, 425, 429)


class _Trouble(Exception):
    """An answer that says nothing about the schema: ask again."""


class SchemaRegistry:
    """A registry's schemas. Never fails for a registry that is down: waits until it is back."""

    def __init__(
        self,
        url: str,
        *,
        known: Mapping[int, Json] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`url` may hold user and password; `known`: schemas by id, not to be asked for; the rest is for tests."""
        self._client = AsyncSchemaRegistryClient(url, timeout=httpx.Timeout(TIMEOUT_S))
        self._url = url.rstrip("/")
        parts = urlsplit(url)
        #: the URL without user and password
        self.name = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        self._clock, self._sleep, self._chance = clock, sleep, chance
        #: what the last request that had no answer ran into
        self.trouble = ""
        self._found: dict[int, Json] = dict(known or {})
        #: until when an unknown id is not asked for again
        self._missed: dict[int, float] = {}
        self._asking: dict[int, asyncio.Lock] = {}

    async def schema(self, schema_id: int) -> Json:
        """The Avro schema of an id, None for an id that the registry does not know (or not as Avro).

        Found ones are kept for ever, unknown ones asked for again after UNKNOWN_FOR_S. Callers that
        ask for one id at the same time share one request. Raises ConfigError where access is refused.
        """
        if schema_id in self._found:
            return self._found[schema_id]
        # a lock, not a shared task: when the one who asks is cancelled, the next in line goes on
        async with self._asking.setdefault(schema_id, asyncio.Lock()):
            if schema_id in self._found:
                return self._found[schema_id]
            if self._clock() < self._missed.get(schema_id, -math.inf):
                return None
            answer = await self._ask(f"schemas/ids/{schema_id}")
            self._asking.pop(schema_id, None)  # those who wait for it find the answer kept
            if answer is not None:
                self._found[schema_id] = _avro(answer)
                return self._found[schema_id]
            if len(self._missed) >= MOST_UNKNOWN:
                self._missed.clear()
            self._missed[schema_id] = self._clock() + UNKNOWN_FOR_S
            return None

    async def latest(self, subject: str) -> tuple[int, Json] | None:
        """Id and schema of the subject's latest version; None where there is no such subject."""
        answer = await self._ask(f"subjects/{quote(subject, safe='')}/versions/latest")
        if answer is None:
            return None
        schema_id = answer.get("id")
        if not isinstance(schema_id, int):
            raise ConfigError(f"the schema registry {self.name} gives no id for subject {subject}")
        return schema_id, _avro(answer)

    async def _ask(self, path: str) -> dict[str, Json] | None:
        """The registry's answer, None for "not found"; asks until it has one."""
        wait, longest = RETRY_S
        while True:
            try:
                return self._answer(path, await self._client.request(f"{self._url}/{path}"))
            except (httpx.RequestError, _Trouble) as trouble:
                pause = wait * (0.5 + self._chance() / 2)  # spread: workers must not ask in step
                self.trouble = f"{type(trouble).__name__.lstrip('_')}: {trouble}".rstrip(": ")
                log.warning(
                    "schema registry %s: no answer for %s (%s); what needs it waits, next try in %.1f s",
                    self.name, path, self.trouble, pause,
                )  # fmt: skip
                await self._sleep(pause)
                wait = min(2 * wait, longest)

    def _answer(self, path: str, response: httpx.Response) -> dict[str, Json] | None:
        code = response.status_code
        if code >= 500 or code in _PASSING:
            raise _Trouble(f"HTTP {code}")
        try:
            body = response.json()
        except ValueError:
            body = None
        if code == 404 and isinstance(body, dict) and body.get("error_code") != 404:
            return None  # 404xx: the registry knows the path, and not what is asked for
        if code in (401, 403):
            raise ConfigError(
                f"the schema registry {self.name} refuses {path}: HTTP {code}; check its user and password"
            )
        if 200 <= code < 300 and isinstance(body, dict) and isinstance(body.get("schema"), str):
            return body
        # something else answers, perhaps a proxy's page while the registry is away
        raise _Trouble(f"HTTP {code} that is not a registry's answer")


def _avro(answer: dict[str, Json]) -> Json:
    """The schema in an answer; None where it is not Avro."""
    text = answer["schema"]
    if answer.get("schemaType", "AVRO") != "AVRO" or not isinstance(text, str):
        return None
    try:
        schema: Json = json.loads(text)
    except ValueError:
        return None
    return schema
