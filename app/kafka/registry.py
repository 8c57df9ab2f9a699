"""Writer schemas from a schema registry (Confluent's API), each requested once.

Of python-schema-registry-client only the public `request` is used, which returns the HTTP response. Its `get_schema`
returns None for a server error as for a missing subject, its `get_by_id` takes every 404, also a proxy's, for an
unknown id and fails on a body that is not JSON, and both return a schema that fastavro has rewritten.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import quote, unquote, urlsplit

import httpx
from schema_registry.client import AsyncSchemaRegistryClient

from app.errors import ConfigError
from app.settings import without_credentials
from codec.avro_schema import Json

log = logging.getLogger(__name__)

#: how long an unknown id is not requested again [s]
UNKNOWN_FOR_S = 30.0
#: maximum number of unknown ids remembered: damaged records may hold any number
MAX_UNKNOWN = 10_000
#: wait before the second attempt, doubled for each further one up to the maximum [s]
RETRY_S = (0.25, 30.0)
#: timeout of one request [s]
TIMEOUT_S = 10.0
#: status codes below 500 after which the request is repeated
_RETRIABLE = (408, 425, 429)


def new_client(url: str) -> tuple[str, AsyncSchemaRegistryClient]:
    """Return the URL without user and password, and a client that sends those in the Authorization header only.

    httpx logs the URL of every request.
    """
    parts = urlsplit(url)
    public = without_credentials(url).rstrip("/")
    auth = None
    if parts.username is not None:
        auth = httpx.BasicAuth(unquote(parts.username), unquote(parts.password or ""))
    return public, AsyncSchemaRegistryClient(public, timeout=httpx.Timeout(TIMEOUT_S), auth=auth)


class _UnusableAnswer(Exception):
    """An answer that tells nothing about the schema: the request is repeated."""


class SchemaRegistry:
    """A registry's schemas. Waits while the registry is down."""

    def __init__(
        self,
        url: str,
        *,
        known: Mapping[int, Json] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`url` may hold user and password; `known`: schemas by id, never requested; the rest is for tests."""
        #: the URL without user and password
        self.name, self._client = new_client(url)
        self._clock, self._sleep, self._chance = clock, sleep, chance
        #: why the last failed request failed
        self.last_error = ""
        self._schemas: dict[int, Json] = dict(known or {})
        #: time until which an unknown id is not requested again
        self._unknown_until: dict[int, float] = {}
        self._requesting: dict[int, asyncio.Lock] = {}

    async def schema(self, schema_id: int) -> Json:
        """Return the Avro schema of an id; None if the registry does not know the id, or not as Avro.

        Schemas are cached forever, unknown ids for UNKNOWN_FOR_S. Concurrent calls for one id share one
        request. Raises ConfigError if access is refused.
        """
        if schema_id in self._schemas:
            return self._schemas[schema_id]
        # a lock, not a shared task: if the requesting caller is cancelled, the next one continues
        async with self._requesting.setdefault(schema_id, asyncio.Lock()):
            if schema_id in self._schemas:
                return self._schemas[schema_id]
            if self._clock() < self._unknown_until.get(schema_id, -math.inf):
                return None
            answer = await self._request(f"schemas/ids/{schema_id}")
            self._requesting.pop(schema_id, None)  # waiting callers find the answer in the cache
            if answer is not None:
                self._schemas[schema_id] = _avro(answer)
                return self._schemas[schema_id]
            if len(self._unknown_until) >= MAX_UNKNOWN:
                self._unknown_until.clear()
            self._unknown_until[schema_id] = self._clock() + UNKNOWN_FOR_S
            return None

    async def latest(self, subject: str) -> tuple[int, Json] | None:
        """Return id and schema of the subject's latest version; None if there is no such subject."""
        answer = await self._request(f"subjects/{quote(subject, safe='')}/versions/latest")
        if answer is None:
            return None
        schema_id = answer.get("id")
        if not isinstance(schema_id, int):
            raise ConfigError(f"the schema registry {self.name} returns no id for subject {subject}")
        return schema_id, _avro(answer)

    async def _request(self, path: str) -> dict[str, Json] | None:
        """Return the registry's answer, None for "not found"; repeat the request until there is one."""
        wait, longest = RETRY_S
        while True:
            try:
                return self._parse(path, await self._client.request(f"{self.name}/{path}"))
            except (httpx.RequestError, _UnusableAnswer) as error:
                pause = wait * (0.5 + self._chance() / 2)  # jitter: workers must not retry in step
                self.last_error = f"{type(error).__name__.lstrip('_')}: {error}".rstrip(": ")
                log.warning(
                    "schema registry %s: no answer for %s (%s); waiting, next attempt in %.1f s",
                    self.name, path, self.last_error, pause,
                )  # fmt: skip
                await self._sleep(pause)
                wait = min(2 * wait, longest)

    def _parse(self, path: str, response: httpx.Response) -> dict[str, Json] | None:
        code = response.status_code
        if code >= 500 or code in _RETRIABLE:
            raise _UnusableAnswer(f"HTTP {code}")
        try:
            body = response.json()
        except ValueError:
            body = None
        if code == 404 and isinstance(body, dict) and body.get("error_code") != 404:
            return None  # 404xx: the registry knows the path, but not the schema or subject
        if code in (401, 403):
            raise ConfigError(
                f"the schema registry {self.name} refuses {path}: HTTP {code}; check its user and password"
            )
        if 200 <= code < 300 and isinstance(body, dict) and isinstance(body.get("schema"), str):
            return body
        # something else has answered, e.g. a proxy while the registry is down
        raise _UnusableAnswer(f"HTTP {code} that is not a registry's answer")


def _avro(answer: dict[str, Json]) -> Json:
    """Return the schema in an answer; None if it is not Avro."""
    text = answer["schema"]
    if answer.get("schemaType", "AVRO") != "AVRO" or not isinstance(text, str):
        return None
    try:
        schema: Json = json.loads(text)
    except ValueError:
        return None
    return schema
