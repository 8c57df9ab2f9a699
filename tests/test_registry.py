"""The registry's schemas are requested once, never confused, and waited for while it is down."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from app.errors import ConfigError
from app.kafka.registry import IN_VAIN_FOR_S, RETRY_S, SHORTER, UNKNOWN_FOR_S, SchemaRegistry

SCHEMA = {"type": "record", "name": "V", "fields": [{"name": "t", "type": {"type": "long", "logicalType": "x"}}]}
FOUND = json.dumps({"schema": json.dumps(SCHEMA)})
UNKNOWN = '{"error_code":40403,"message":"Schema not found"}'

Answer = tuple[int, str]


class FakeRegistry:
    """Returns the given answers in order, the last one forever, and records the paths requested."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requested: list[str] = []
        self.authorization: str | None = None
        self.hold = asyncio.Event()
        self.hold.set()

    async def answer(self, request: web.Request) -> web.Response:
        self.requested.append(request.raw_path)
        self.authorization = request.headers.get("Authorization")
        await self.hold.wait()
        status, text = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.Response(status=status, text=text, content_type="application/json")

    @asynccontextmanager
    async def running(self, port: int | None = None) -> AsyncIterator[str]:
        """Serve; yields the URL."""
        app = web.Application()
        app.router.add_get("/{path:.*}", self.answer)
        async with TestServer(app, port=port) as server:
            yield str(server.make_url("")).rstrip("/")


class Clock:
    """A clock that only sleeping advances."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.on_sleep: Callable[[], Any] | None = None

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        if self.on_sleep is not None:
            await self.on_sleep()

    def schemas(self, url: str, chance: float = 1.0, patience_s: float = 0.0) -> SchemaRegistry:
        return SchemaRegistry(
            url, patience_s=patience_s, clock=lambda: self.now, sleep=self.sleep, chance=lambda: chance
        )


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_a_schema_is_requested_once(clock: Clock) -> None:
    """The schema is returned as registered, with attributes, order and names unchanged."""
    registry = FakeRegistry((200, FOUND))
    async with registry.running() as url:
        schemas = clock.schemas(url)
        assert await schemas.schema(7) == SCHEMA
        assert await schemas.schema(7) == SCHEMA
    assert registry.requested == ["/schemas/ids/7"]


async def test_credentials_of_the_url_are_sent_and_never_logged(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """User and password go into the header; no library's log line and no message of ours has them."""
    registry = FakeRegistry((503, "<html>"), (200, FOUND))
    async with registry.running() as url:
        with caplog.at_level(logging.DEBUG):
            schemas = clock.schemas(url.replace("//", "//kim:s%3Acret@"))
            assert await schemas.schema(7) == SCHEMA
    assert registry.authorization == "Basic " + base64.b64encode(b"kim:s:cret").decode()
    assert url in caplog.text
    for secret in ("cret", registry.authorization.split()[1]):
        assert secret not in caplog.text
    assert schemas.name.startswith("http://127.0.0.1:")


async def test_an_unknown_id_is_requested_again_later(clock: Clock) -> None:
    """A schema may be registered after its first record has been read."""
    registry = FakeRegistry((404, UNKNOWN), (200, FOUND))
    async with registry.running() as url:
        schemas = clock.schemas(url)
        assert await schemas.schema(7) is None
        clock.now += UNKNOWN_FOR_S - 1
        assert await schemas.schema(7) is None
        assert len(registry.requested) == 1
        clock.now += 1
        assert await schemas.schema(7) == SCHEMA
        assert len(registry.requested) == 2


@pytest.mark.parametrize(
    "unusable",
    [
        (500, '{"error_code":50001,"message":"store"}'),
        (503, "<html>"),
        (429, "{}"),
        (404, "<html>Not Found</html>"),
        (404, '{"error_code":404,"message":"HTTP 404 Not Found"}'),
        (404, '{"message":"no Route matched with those values"}'),
        (404, "[]"),
        (200, "<html>Log in</html>"),
        (200, "{}"),
    ],
)
async def test_an_unusable_answer_is_not_taken_for_unknown(
    clock: Clock, unusable: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    """A failing registry, or something else at its address, must not make good records dead letters."""
    registry = FakeRegistry(unusable, unusable, (200, FOUND))
    async with registry.running() as url:
        with caplog.at_level(logging.WARNING):
            assert await clock.schemas(url).schema(7) == SCHEMA
    assert len(registry.requested) == 3
    assert clock.slept == [RETRY_S[0], 2 * RETRY_S[0]]
    assert [record.levelname for record in caplog.records if record.name == "app.kafka.registry"] == ["WARNING"] * 2


async def test_a_registry_that_is_down_is_waited_for(clock: Clock) -> None:
    port = unused_port()
    registry = FakeRegistry((200, FOUND))
    up = registry.running(port)

    async def restart() -> None:
        if len(clock.slept) == 12:
            await up.__aenter__()

    clock.on_sleep = restart
    assert await clock.schemas(f"http://127.0.0.1:{port}").schema(7) == SCHEMA
    assert len(clock.slept) == 12
    assert clock.slept[-1] == RETRY_S[1]
    await up.__aexit__(None, None, None)


async def test_workers_do_not_retry_in_step(clock: Clock) -> None:
    async with FakeRegistry((500, ""), (200, FOUND)).running() as url:
        await clock.schemas(url, chance=0.0).schema(7)
    assert clock.slept == [RETRY_S[0] / 2]


async def test_concurrent_calls_for_one_id_share_a_request(clock: Clock) -> None:
    registry = FakeRegistry((200, FOUND))
    registry.hold.clear()
    async with registry.running() as url:
        schemas = clock.schemas(url)
        calls = [asyncio.ensure_future(schemas.schema(7)) for _ in range(5)]
        while not registry.requested:
            await asyncio.sleep(0)
        registry.hold.set()
        assert await asyncio.gather(*calls) == [SCHEMA] * 5
    assert len(registry.requested) == 1


async def test_if_the_requesting_call_is_cancelled_the_next_continues(clock: Clock) -> None:
    registry = FakeRegistry((200, FOUND))
    registry.hold.clear()
    async with registry.running() as url:
        schemas = clock.schemas(url)
        first, second = (asyncio.ensure_future(schemas.schema(7)) for _ in range(2))
        while not registry.requested:
            await asyncio.sleep(0)
        first.cancel()
        registry.hold.set()
        assert await second == SCHEMA
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_ids_do_not_wait_for_each_other(clock: Clock) -> None:
    registry = FakeRegistry((404, UNKNOWN))
    async with registry.running() as url:
        schemas = clock.schemas(url)
        await asyncio.gather(schemas.schema(1), schemas.schema(2))
    assert sorted(registry.requested) == ["/schemas/ids/1", "/schemas/ids/2"]


@pytest.mark.parametrize("code", [401, 403])
async def test_refused_access_is_a_config_error(clock: Clock, code: int) -> None:
    async with FakeRegistry((code, "{}")).running() as url:
        with pytest.raises(ConfigError, match=f"{code}; check its user and password") as caught:
            await clock.schemas(url.replace("http://", "http://me:secret@")).latest("s")
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        '{"schema":"syntax = 3","schemaType":"PROTOBUF"}',
        '{"schema":"{}","schemaType":"JSON"}',
        '{"schema":"not json"}',
    ],
)
async def test_a_schema_that_is_not_avro_is_unknown(clock: Clock, text: str) -> None:
    async with FakeRegistry((200, text)).running() as url:
        assert await clock.schemas(url).schema(7) is None


async def test_latest(clock: Clock) -> None:
    """What is the latest version is not cached, since it changes. A subject may contain any character."""
    answer = json.dumps({"subject": "a/b", "version": 3, "id": 9, "schema": json.dumps(SCHEMA)})
    registry = FakeRegistry((200, answer))
    async with registry.running() as url:
        schemas = clock.schemas(url + "/")
        assert await schemas.latest("a/b") == (9, SCHEMA)
        assert await schemas.latest("a/b") == (9, SCHEMA)
    assert registry.requested == ["/subjects/a%2Fb/versions/latest"] * 2


async def test_latest_of_a_missing_subject(clock: Clock) -> None:
    async with FakeRegistry((404, '{"error_code":40401,"message":"Subject not found"}')).running() as url:
        assert await clock.schemas(url).latest("s") is None


async def test_latest_waits_for_the_registry(clock: Clock) -> None:
    """The client's own get_schema returns None here, as for a missing subject."""
    async with FakeRegistry((500, ""), (200, json.dumps({"id": 9, "schema": "{}"}))).running() as url:
        assert await clock.schemas(url).latest("s") == (9, {})


async def test_the_latest_schema_is_not_requested_by_its_id(clock: Clock) -> None:
    """The preflight checks have read the subject's latest schema: the registry may go down after them."""
    registry = FakeRegistry((200, json.dumps({"id": 7, "schema": json.dumps(SCHEMA)})), (404, UNKNOWN))
    async with registry.running() as url:
        schemas = clock.schemas(url)
        await schemas.latest("s")
        assert await schemas.schema(7) == SCHEMA
        assert await schemas.schema(8) is None
    assert registry.requested == ["/subjects/s/versions/latest", "/schemas/ids/8"]


async def test_the_preflight_checks_request_an_unknown_id_once(clock: Clock) -> None:
    """Whatever RISK_REGISTRY_PATIENCE says: a start that is refused says so soon."""
    registry = FakeRegistry((404, UNKNOWN))
    async with registry.running() as url:
        assert await clock.schemas(url, patience_s=10.0).schema(8, patiently=False) is None
    assert registry.requested == ["/schemas/ids/8"]


async def test_the_last_error_is_kept_without_the_password(clock: Clock) -> None:
    """The preflight error shows it."""
    async with FakeRegistry((503, ""), (200, FOUND)).running() as url:
        schemas = clock.schemas(url.replace("http://", "http://me:secret@"))
        assert await schemas.schema(7) == SCHEMA
        assert schemas.last_error == "UnusableAnswer: HTTP 503"
        assert schemas.name == url


async def test_an_id_is_unknown_only_after_it_was_requested_for_long(clock: Clock) -> None:
    """A replica of the registry, or a cache before it, may not know a new schema yet."""
    registry = FakeRegistry(*[(404, UNKNOWN)] * 6, (200, FOUND))
    async with registry.running() as url:
        schemas = clock.schemas(url, patience_s=60)
        assert await schemas.schema(7) == SCHEMA
    assert clock.slept == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0]
    assert schemas.answers == 7


async def test_requests_for_an_unknown_id_end(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """It is said that they begin; later one request at a time is enough."""
    registry = FakeRegistry((404, UNKNOWN))
    async with registry.running() as url:
        schemas = clock.schemas(url, patience_s=60)
        assert await schemas.schema(7) is None
        assert clock.now == 60
        assert "no schema with id 7 yet; requesting it for 60 s" in caplog.text
        clock.now += UNKNOWN_FOR_S
        requested = len(registry.requested)
        assert await schemas.schema(7) is None
        assert len(registry.requested) == requested + 1


async def test_after_one_id_in_vain_others_get_less_time_until_a_schema_is_found(clock: Clock) -> None:
    """Damaged records hold any number of ids: they must not stop their partition for long again and again."""
    registry = FakeRegistry((404, UNKNOWN))
    async with registry.running() as url:
        schemas = clock.schemas(url, patience_s=60)

        async def waited(schema_id: int) -> float:
            began = clock.now
            await schemas.schema(schema_id)
            return clock.now - began

        assert await waited(1) == 60
        assert await waited(2) == await waited(3) == 60 * SHORTER
        registry.answers = [(200, FOUND), (404, UNKNOWN)]
        assert await waited(4) == 0
        assert await waited(5) == 60
        clock.now += IN_VAIN_FOR_S
        assert await waited(6) == 60


async def test_of_many_unknown_ids_few_are_requested_for_long(clock: Clock) -> None:
    """All at a time, and no more than a registry can bear."""
    registry = FakeRegistry((404, UNKNOWN))
    async with registry.running() as url:
        schemas = clock.schemas(url, patience_s=1)
        assert await asyncio.gather(*map(schemas.schema, range(1, 101))) == [None] * 100
    again = {path for path in registry.requested if registry.requested.count(path) > 1}
    assert 1 <= len(again) <= 100
    assert len(set(registry.requested)) == 100


async def test_the_id_0_is_requested_once(clock: Clock) -> None:
    """No registry gives it; ids of 8 bytes begin with zeros."""
    registry = FakeRegistry((404, UNKNOWN))
    async with registry.running() as url:
        assert await clock.schemas(url, patience_s=60).schema(0) is None
    assert len(registry.requested) == 1


async def test_no_answer_in_between_is_waited_out(clock: Clock) -> None:
    """An answer that is none never makes an id unknown, however long the id has been requested."""
    registry = FakeRegistry((404, UNKNOWN), *[(502, "<html>")] * 20, (200, FOUND))
    async with registry.running() as url:
        assert await clock.schemas(url, patience_s=60).schema(7) == SCHEMA
    assert clock.now > 60
