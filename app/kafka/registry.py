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
from collections.abc import Awaitable, Callable
from urllib.parse import quote

import httpx

from app.errors import ConfigError
from app.kafka.registry_client import Login, RegistryClient, reason_of
from codec.avro_schema import Json

log = logging.getLogger(__name__)

#: how long an unknown id is not requested again; then once [s]
UNKNOWN_FOR_S = 30.0
#: maximum number of unknown ids remembered: damaged records may hold any number
MAX_UNKNOWN = 10_000
#: wait before the second attempt, doubled for each further one up to the maximum [s]
RETRY_S = (0.25, 30.0)
#: wait before an unknown id is requested again, doubled each time up to the maximum [s]
ASK_AGAIN_S = (0.25, 5.0)
#: how long it counts that an id was requested in vain for all of its time, and what is left of the next ids' time
IN_VAIN_FOR_S, SHORTER = 600.0, 0.05
#: most ids at a time that are requested more than once: a connector registers a few schemas, damage any number
MAX_PATIENT = 16
#: most requests at a time
MAX_REQUESTS = 8
#: `error_code` of an answer 404: no such subject, version or schema. Without it a proxy or another server has answered
_NOT_FOUND = range(40401, 40500)
#: status codes below 500 after which the request is repeated
_RETRIABLE = (408, 425, 429)


class _UnusableAnswer(Exception):
    """An answer that tells nothing about the schema: the request is repeated."""


class SchemaRegistry:
    """A registry's schemas. Waits while the registry is down. Mutable: caches schemas and unknown ids.

    A replica of a registry, or a cache before it, may answer "not found" for a schema that has just been registered.
    So an id is unknown only after it has been requested for `patience_s`. Damaged records hold ids at random: once one
    has been requested in vain for so long, further ones get a twentieth of it, until a schema is found or
    IN_VAIN_FOR_S have passed; of more than MAX_PATIENT ids at a time each is requested once.
    """

    def __init__(
        self,
        url: str,
        login: Login | None = None,
        *,
        patience_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`url` may hold user and password; patience_s: how long an unknown id is requested [s].

        The rest is for tests. Raises ConfigError if the login cannot be used.
        """
        self._client = RegistryClient(url, login)
        #: the URL without user and password, and the proxy if there is one
        self.name = self._client.name
        self._patience_s = patience_s
        self._clock, self._sleep, self._chance = clock, sleep, chance
        #: why the last failed request failed
        self.last_error = ""
        #: how often the registry has answered
        self.answers = 0
        self._schemas: dict[int, Json] = {}
        #: time until which an unknown id is not requested again
        self._unknown_until: dict[int, float] = {}
        self._requesting: dict[int, asyncio.Lock] = {}
        #: ids that the registry does not know yet
        self._patient: set[int] = set()
        #: when an id was last requested in vain for all of `patience_s`
        self._in_vain_at = -math.inf
        self._requests = asyncio.Semaphore(MAX_REQUESTS)

    async def schema(self, schema_id: int, *, patiently: bool = True) -> Json:
        """Return the Avro schema of an id; None if the registry does not know the id, or not as Avro.

        Schemas are cached forever, unknown ids for UNKNOWN_FOR_S. Concurrent calls for one id share one
        request. patiently: whether an id that is unknown is requested again. Raises ConfigError if access is refused.
        """
        if schema_id in self._schemas:
            return self._schemas[schema_id]
        # a lock, not a shared task: if the requesting caller is cancelled, the next one continues
        async with self._requesting.setdefault(schema_id, asyncio.Lock()):
            if schema_id in self._schemas:
                return self._schemas[schema_id]
            if self._clock() < self._unknown_until.get(schema_id, -math.inf):
                return None
            answer = await (self._request_patiently(schema_id) if patiently else self._request(_path(schema_id)))
            self._requesting.pop(schema_id, None)  # waiting callers find the answer in the cache
            if answer is not None:
                self._schemas[schema_id] = _avro(answer)
                return self._schemas[schema_id]
            if len(self._unknown_until) >= MAX_UNKNOWN:
                self._unknown_until.clear()
            self._unknown_until[schema_id] = self._clock() + UNKNOWN_FOR_S
            return None

    async def _request_patiently(self, schema_id: int) -> dict[str, Json] | None:
        """Request an id until the registry knows it; None if it does not for as long as the id deserves."""
        path, began = _path(schema_id), self._clock()
        wait, longest = ASK_AGAIN_S
        answer = await self._request(path)
        # unknown before: it has had its time. No registry gives the id 0
        if answer is None and schema_id and schema_id not in self._unknown_until and len(self._patient) < MAX_PATIENT:
            log.warning(
                "schema registry %s: no schema with id %d yet; requesting it for %g s before its records are given up",
                self.name, schema_id, self._patience(),
            )  # fmt: skip
            self._patient.add(schema_id)
            try:
                while answer is None and (left := began + self._patience() - self._clock()) > 0:
                    await self._sleep(min(left, wait * (0.5 + self._chance() / 2)))
                    wait = min(2 * wait, longest)
                    answer = await self._request(path)
            finally:
                self._patient.discard(schema_id)
            if answer is None and self._clock() - began >= self._patience_s:
                self._in_vain_at = self._clock()
        if answer is not None:
            self._in_vain_at = -math.inf
        return answer

    def _patience(self) -> float:
        recently = self._clock() - self._in_vain_at < IN_VAIN_FOR_S
        return self._patience_s * (SHORTER if recently else 1.0)

    async def latest(self, subject: str) -> tuple[int, Json] | None:
        """Return id and schema of the subject's latest version, and cache it; None if there is no such subject."""
        answer = await self._request(f"subjects/{quote(subject, safe='')}/versions/latest")
        if answer is None:
            return None
        schema_id = answer.get("id")
        if not isinstance(schema_id, int):
            raise ConfigError(
                f"the schema registry {self.name} returns no id for subject {subject}: check the path in "
                "RISK_SCHEMA_REGISTRY"
            )
        self._schemas[schema_id] = _avro(answer)
        return schema_id, self._schemas[schema_id]

    async def _request(self, path: str) -> dict[str, Json] | None:
        """Return the registry's answer, None for "not found"; repeat the request until there is one."""
        wait, longest = RETRY_S
        while True:
            try:
                async with self._requests:
                    response = await self._client.get(path)
                answer = self._parse(path, response)
                self.answers += 1
                return answer
            except (httpx.RequestError, _UnusableAnswer) as error:
                pause = wait * (0.5 + self._chance() / 2)  # jitter: workers must not retry in step
                self.last_error = reason_of(error)
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
        if code == 404 and isinstance(body, dict) and body.get("error_code") in _NOT_FOUND:
            return None  # the registry knows the path, but not the schema or subject
        if code in (401, 403):
            raise ConfigError(
                f"the schema registry {self.name} refuses {path}: HTTP {code}; check its user and password, or "
                "the token (RISK_SCHEMA_REGISTRY_USER, …_PASSWORD, …_TOKEN)"
            )
        if 200 <= code < 300 and isinstance(body, dict) and isinstance(body.get("schema"), str):
            return body
        # something else has answered, e.g. a proxy while the registry is down
        raise _UnusableAnswer(f"HTTP {code} that is not a registry's answer")


def _path(schema_id: int) -> str:
    return f"schemas/ids/{schema_id}"


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
