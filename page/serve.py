"""The composition root: makes the parts of the page, and runs them until the process is told to end."""

from __future__ import annotations

import asyncio
import logging
import logging.config
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from app.errors import ConfigError
from app.ops.logs import config as log_config
from app.ops.logs import log_uncaught_errors
from app.ops.preflight import check_names
from app.proxies import is_local
from app.settings import Settings
from page.access import gate
from page.access.gate import Gate
from page.access.logins import Logins
from page.access.secret import Secret
from page.access.throttle import Throttle
from page.access.tokens import Tokens
from page.access.users import Users
from page.cases.audit import Audit
from page.cases.desk import Desk
from page.cases.fold import CaseFold
from page.cases.topics import prepare
from page.cases.writer import Writer
from page.reader.follow import Follower
from page.reader.sources import origin
from page.store.database import Database
from page.web.hub import Hub
from page.web.model_card import card_of
from page.web.outcomes import read_outcomes
from page.web.render import new_templates
from page.web.services import Services
from page.web.site import create_site
from page.web.static import Static

FILE = "page.sqlite3"
#: how long requests may take to end when the page does [s]
_END_S = 5
#: most connections, of which each open list is one: fewer than the files that a process may usually open
_CONNECTIONS = 800
#: longest request line and headers [bytes]
_HEAD_BYTES = 32_768
#: how long one thread may compute while others wait: a request passes through several threads, and each waits so long
#: for its turn while topics are read [s]
_TURN_S = 0.001
log = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn, which tells the streams of changes to end before it waits for all requests to end."""

    def __init__(self, site: Starlette, hub: Hub) -> None:
        super().__init__(
            uvicorn.Config(
                site,
                lifespan="off",
                http="h11",
                ws="none",
                log_config=None,
                access_log=False,
                proxy_headers=False,  # page.access.origin decides whom to believe
                # else uvicorn reads WEB_CONCURRENCY and FORWARDED_ALLOW_IPS, which another program may have set
                workers=1,
                forwarded_allow_ips="",
                server_header=False,
                timeout_graceful_shutdown=_END_S,
                limit_concurrency=_CONNECTIONS,
                h11_max_incomplete_event_size=_HEAD_BYTES,
            )
        )
        self._hub = hub

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then wait for requests and close the sockets."""
        self._hub.close()
        await super().shutdown(sockets)


def serve(settings: Settings, level: str) -> None:
    """Serve the page until SIGTERM or SIGINT. level: of the log. Raises ConfigError if the page cannot start."""
    _log_to_stderr(settings, level)
    for line in Settings.misspelt(os.environ):
        log.warning("%s", line)
    gate.check(settings)
    users = gate.users_of(settings)
    if users is not None and not users.anybody:
        log.warning("%s has no users: nobody gets in; see faust -A app page-user", settings.page_users)
    read_outcomes(settings.page_outcomes)
    card_of(settings.page_report)
    check_names("RISK_BROKER", [server.rpartition(":")[0] for server in settings.brokers])
    with listener(settings) as listening:
        _make_directory(settings.page_datadir)
        database = Database.open(settings.page_datadir / FILE, origin=origin(settings))
        try:
            secret = Secret.of(settings.page_datadir)
            for line in asyncio.run(prepare(settings)):
                log.warning("%s", line)
            _run(settings, database, users, secret, listening)
        finally:
            database.close()


def url_of(settings: Settings) -> str:
    """Return the address of the page, as a browser on this machine needs it."""
    host = settings.page_address
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.page_port}/"


@contextmanager
def listener(settings: Settings) -> Iterator[socket.socket]:
    """Listen on the page's address. Raises ConfigError if that is impossible."""
    host, port = settings.page_address, settings.page_port
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
    except OSError as error:
        raise ConfigError(f"RISK_PAGE_BIND: {host}: {error.strerror}; set an address of this machine") from None
    with listening:
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(socket.SOMAXCONN)
        except OSError as error:
            raise ConfigError(
                f"RISK_PAGE_PORT: cannot listen on {url_of(settings)}: {error.strerror}; set another"
            ) from None
        yield listening


def _run(
    settings: Settings,
    database: Database,
    users: Users | None,
    secret: Secret,
    listening: socket.socket,
) -> None:
    hub = Hub()
    crashes: list[BaseException] = []

    def on_crash(error: BaseException) -> None:
        crashes.append(error)
        server.should_exit = True

    follower = Follower(
        settings,
        database,
        cases_topic=settings.topic_names.cases,
        history_days=settings.page_history_days,
        fold=CaseFold(settings.topic_names.cases),
        on_changes=hub.publish,
        on_crash=on_crash,
    )
    writer = Writer(settings, follower)
    services = _services(settings, database, users, secret, follower, writer, hub)
    server = Server(create_site(services), hub)
    sys.setswitchinterval(_TURN_S)
    follower.start()
    try:
        log.info("the page is at %s", url_of(settings))
        if users is not None and not settings.page_proxies and not is_local(settings.page_address):
            log.warning(
                "passwords are sent unencrypted: put a proxy with TLS before the page, and set RISK_PAGE_PROXIES"
            )
        with _signals_ignored():  # uvicorn handles them, and raises them again when it has ended
            server.run([listening])
    finally:
        writer.close()
        follower.stop()
    if crashes:
        raise crashes[0]


def _services(
    settings: Settings,
    database: Database,
    users: Users | None,
    secret: Secret,
    follower: Follower,
    writer: Writer,
    hub: Hub,
) -> Services:
    names, static, form_key = settings.topic_names, Static(), secret.key("forms")
    logins = None
    if users is not None and not settings.page_user_header:
        logins = Logins(database, users, form_key, settings.page_login_hours)
    return Services(
        settings=settings,
        database=database,
        follower=follower,
        hub=hub,
        desk=Desk(database, follower, writer, names.cases),
        audit=Audit(writer, names.page_audit),
        tokens=Tokens(secret.key("students"), plain=settings.ids_in_url),
        templates=new_templates(settings, static),
        static=static,
        gate=Gate(settings, users, logins, form_key),
        throttle=Throttle(),
    )


def _make_directory(path: Path) -> None:
    """Make the page's directory, for nobody else. Raises ConfigError."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"RISK_PAGE_DATADIR: cannot make {path}: {error.strerror}; set another") from None


def _log_to_stderr(settings: Settings, level: str) -> None:
    json = log_config(settings, level)
    if json is None:
        form = "[%(asctime)s] [%(levelname)s] %(message)s"
        logging.basicConfig(level=level.upper(), format=form, stream=sys.stderr, force=True)
    else:
        logging.config.dictConfig(json)
        log_uncaught_errors()
    for name in ("uvicorn.error", "aiokafka"):
        logging.getLogger(name).setLevel(logging.WARNING)


@contextmanager
def _signals_ignored() -> Iterator[None]:
    former = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
