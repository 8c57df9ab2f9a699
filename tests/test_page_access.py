"""Who gets in to the page and sees what: each refusal, and what every answer carries."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from argon2 import PasswordHasher
from starlette.applications import Starlette
from starlette.routing import Route

from app.settings import Settings
from page.access import passwords
from page.access.gate import Gate
from page.access.logins import Logins
from page.access.secret import Secret
from page.access.throttle import Throttle
from page.access.tokens import Tokens
from page.access.users import User, Users, write
from page.cases.audit import Look
from page.reader.state import Phase, State
from page.store.database import Database
from page.web import middleware
from page.web.hub import Hub
from page.web.middleware import SECURITY_HEADERS
from page.web.render import new_templates
from page.web.services import Services
from page.web.site import create_site
from page.web.static import Static
from tests.support.page_site import AuditBook, Reader, add_entry

PASSWORD = "correct horse battery"
#: as cheap as possible
HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
SECRET = Secret(b"s" * 32)
PROXY, ELSEWHERE = "10.0.0.7", "10.0.0.8"
#: students 11 to 13 in course 1, 21 to 23 in course 2
ENTRIES = [(10 * course + n, course) for course in (1, 2) for n in (1, 2, 3)]
#: made once: templates are compiled when they are first used
STATIC = Static()
TEMPLATES = new_templates(Settings(), STATIC)
FORM = "application/x-www-form-urlencoded"


@dataclass
class NoKafka(Reader):
    """A reader whose Kafka is away."""

    def run(self, coroutine: Coroutine[Any, Any, Any], timeout_s: float | None = None) -> Any:
        """Run nothing."""
        self.begin(coroutine)

    def begin(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run nothing."""
        coroutine.close()
        raise RuntimeError("there is no Kafka")


class Clock:
    """Seconds that pass when told."""

    now = 1e9

    def __call__(self) -> float:
        return self.now


@dataclass
class Browser:
    """A browser at an address, with cookies of its own. It follows no redirects."""

    app: Starlette
    address: str
    headers: dict[str, str]
    cookies: httpx.Cookies = field(default_factory=httpx.Cookies)
    url: str = "http://127.0.0.1:6080"
    #: whether an error of the page is one of the test
    raises: bool = True

    def get(self, url: str, **options: Any) -> httpx.Response:
        """GET a URL; options: of httpx."""
        return asyncio.run(self._send("GET", url, **options))

    def post(self, url: str, **options: Any) -> httpx.Response:
        """POST to a URL; options: of httpx."""
        return asyncio.run(self._send("POST", url, **options))

    async def _send(self, method: str, url: str, **options: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, client=(self.address, 50_000), raise_app_exceptions=self.raises)
        own = {"base_url": self.url, "headers": self.headers, "cookies": self.cookies}
        async with httpx.AsyncClient(transport=transport, **own) as client:
            answer = await client.request(method, url, **options)
            self.cookies = client.cookies
            return answer


@dataclass
class Place:
    """A page with the real gate, and visitors of it."""

    services: Services
    app: Starlette
    audit: AuditBook
    users: Path
    clock: Clock

    def visitor(self, address: str = "127.0.0.1", **headers: str) -> Browser:
        """Return a browser at an address, without cookies."""
        return Browser(self.app, address, {name.replace("_", "-"): value for name, value in headers.items()})

    def logged_in(self, name: str, address: str = "127.0.0.1", **headers: str) -> Browser:
        """Return the browser of a user who has logged in."""
        client = self.visitor(address, **headers)
        answer = log_in(client, name)
        assert answer.status_code == 303, answer.text
        return client

    def token(self, student: int, course: int) -> str:
        """Return what stands for an entry in URLs."""
        return self.services.tokens.encode(student, course)


def log_in(client: Browser, name: str, password: str = PASSWORD, **more: str) -> Any:
    """Fill in the form of the login."""
    form = {"user": name, "password": password, "csrf": csrf_of(client.get("/login").text), **more}
    return client.post("/login", data=form)


def as_bytes(text: str | bytes) -> bytes:
    """Return the bytes of a header."""
    return text.encode() if isinstance(text, str) else text


def csrf_of(html: str) -> str:
    """Return the token of the first form."""
    found = re.search(r'name="csrf" value="([^"]+)"', html)
    assert found is not None
    return found[1]


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spend no time on the passwords of users that do not exist."""
    monkeypatch.setattr(passwords, "_NOBODY", HASH)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Callable[..., Place]]:
    """Make a page with settings; `users` is a file with ada (all courses), ben (course 1), sam (1, no password)."""
    databases, places = [], []
    users = tmp_path / "users"
    write(users, [User("ada", None, HASH), User("ben", frozenset({1}), HASH), User("sam", frozenset({1}))])

    def make(**variables: str) -> Place:
        settings = Settings.from_env({"RISK_PAGE_STALE_HOURS": "0", **variables})
        database = Database.open(tmp_path / f"page{len(places)}.sqlite3")
        databases.append(database)
        for entry in ENTRIES:
            add_entry(database, *entry)
        known, logins, clock = None, None, Clock()
        if not settings.page_is_open:
            known = Users(Path(settings.page_users))
            if not settings.page_user_header:
                logins = Logins(database, known, SECRET.key("forms"), settings.page_login_hours, clock)
        audit = AuditBook()
        services = Services(
            settings=settings,
            database=database,
            follower=cast(Any, NoKafka(State(Phase.LIVE, 1.0, is_complete=True))),
            hub=Hub(),
            desk=cast(Any, None),
            audit=cast(Any, audit),
            tokens=Tokens(SECRET.key("students"), plain=settings.ids_in_url),
            templates=TEMPLATES,
            static=STATIC,
            gate=Gate(settings, known, logins, SECRET.key("forms")),
            throttle=Throttle(clock),
        )
        places.append(Place(services, create_site(services), audit, users, clock))
        return places[-1]

    yield make
    for database in databases:
        database.close()


@pytest.fixture
def open_page(place: Callable[..., Place]) -> Place:
    """A page that asks nobody."""
    return place()


@pytest.fixture
def login_page(place: Callable[..., Place], tmp_path: Path) -> Place:
    """A page with users of its own, behind a proxy with TLS."""
    return place(RISK_PAGE_USERS=str(tmp_path / "users"), RISK_PAGE_PROXIES=PROXY, RISK_PAGE_HOSTS="risk.example.org")


@pytest.fixture
def sso_page(place: Callable[..., Place], tmp_path: Path) -> Place:
    """A page whose users a proxy names."""
    return place(
        RISK_PAGE_USERS=str(tmp_path / "users"), RISK_PAGE_PROXIES=PROXY, RISK_PAGE_USER_HEADER="X-Remote-User"
    )


def all_get_urls(place: Place) -> list[str]:
    """Return a URL of each route that answers GET, of course 2 where it is of one."""
    urls = []
    values = {"token": place.token(21, 2), "course": "2", "hash": place.services.static.hash, "name": "base.css"}
    for route in place.app.routes:
        assert isinstance(route, Route)
        if route.methods and "GET" in route.methods:
            urls.append(re.sub(r"{(\w+)(:\w+)?}", lambda m: values[m[1]], route.path))
    assert len(urls) > 10
    return urls


# -- without users


def test_without_users_everybody_on_this_machine_gets_in(open_page):
    for address in ("127.0.0.1", "::1", "127.9.9.9"):
        answer = open_page.visitor(address).get("/")
        assert answer.status_code == 200
        assert "local" in answer.text
    assert open_page.visitor().get("/login").status_code == 404
    assert open_page.audit.records[0][:2] == ("local", Look.LIST)


@pytest.mark.parametrize(
    ("address", "headers"),
    [
        (ELSEWHERE, {}),
        ("::ffff:10.0.0.8", {}),
        ("127.0.0.1", {"X_Forwarded_For": "127.0.0.1"}),
        ("127.0.0.1", {"Forwarded": "for=1.2.3.4"}),
        ("127.0.0.1", {"X_Forwarded_Host": "localhost"}),
        ("127.0.0.1", {"X_Real_IP": "127.0.0.1"}),
    ],
)
def test_without_users_nobody_else_gets_in(open_page, address, headers):
    """Not through a proxy on this machine either, which may be anybody's way in."""
    client = open_page.visitor(address, **headers)
    for url in set(all_get_urls(open_page)) - {"/login", "/health"}:
        if not url.startswith("/static"):
            answer = client.get(url)
            assert answer.status_code == 403, url
            assert "RISK_PAGE_USERS" in answer.text
    assert open_page.audit.records == []


# -- the host


@pytest.mark.parametrize("host", ["evil.example.com", "evil.example.com:6080", "risk.example.org.evil.com", "a b", ""])
def test_a_foreign_host_name_is_refused(login_page, host):
    client = login_page.visitor()
    for url in ("/", "/login", "/health", login_page.services.static.url("base.css")):
        answer = client.get(url, headers={"Host": host})
        assert answer.status_code == (421 if host else answer.status_code), url


@pytest.mark.parametrize(
    "host", ["risk.example.org", "RISK.example.org:443", "localhost:6080", "10.1.2.3", "[::1]:6080"]
)
def test_names_in_the_settings_and_addresses_are_answered(login_page, host):
    assert login_page.visitor().get("/login", headers={"Host": host}).status_code == 200


def test_two_host_names_are_refused(login_page):
    client = login_page.visitor()
    assert client.get("/login", headers=[("Host", "localhost"), ("Host", "localhost")]).status_code == 421


# -- what every answer carries


def test_every_answer_has_the_headers_of_security(login_page):
    client = login_page.logged_in("ada")
    codes = set()
    stranger = login_page.visitor()
    for answer in (
        *(client.get(url) for url in all_get_urls(login_page) if url != "/changes"),
        client.get("/nothing"),
        client.post("/", data={"csrf": csrf_of(client.get("/").text)}),
        client.get("/", headers={"Host": "evil.example.com"}),
        client.post("/search", data={"student": "11"}),
        stranger.get("/"),
        stranger.get("/changes"),
    ):
        codes.add(answer.status_code)
        for name, value in SECURITY_HEADERS.items():
            assert answer.headers[name] == value, (answer.url, name)
        is_asset = answer.url.path.startswith("/static")
        assert ("immutable" if is_asset else "no-store") in answer.headers["Cache-Control"], answer.url
        assert "server" not in answer.headers
    assert codes >= {200, 303, 401, 403, 404, 405, 421}


def test_a_failure_is_a_page_with_the_headers_too(login_page, monkeypatch):
    """The traceback is for the log."""
    client = login_page.logged_in("ada")
    monkeypatch.setattr(login_page.services.audit, "record", lambda *_, **__: 1 / 0)
    client.raises = False
    answer = client.get("/")
    assert answer.status_code == 500
    assert "Something went wrong" in answer.text
    assert "ZeroDivision" not in answer.text
    assert answer.headers.items() >= {name.lower(): value for name, value in SECURITY_HEADERS.items()}.items()
    assert answer.headers["Cache-Control"] == "no-store"


def test_pages_have_nothing_that_the_policy_forbids(login_page):
    client = login_page.logged_in("ada")
    for url in all_get_urls(login_page):
        if url != "/changes" and not url.startswith("/static"):
            answer = client.get(url)
            if answer.headers.get("Content-Type", "").startswith("text/html"):
                assert not re.search(
                    r"""<style|\sstyle=|\son\w+=["']|javascript:|<script(?![^>]*\ssrc=)""", answer.text
                ), url
                assert set(re.findall(r"""(?:src|href)="(\w+:)?//""", answer.text)) <= set(), url


# -- the login


def test_nobody_gets_in_without_a_login(login_page):
    """Pages lead to the form, and back to where one wanted to go; what no person reads says 401."""
    client = login_page.visitor()
    for url in all_get_urls(login_page):
        answer = client.get(url)
        if url in ("/login", "/health") or url.startswith("/static"):
            assert answer.status_code == 200, url
        elif url == "/changes":
            assert answer.status_code == 401
        else:
            assert answer.status_code == 303, url
            assert answer.headers["Location"] == ("/login" if url == "/" else f"/login?next={url}")
    assert client.get("/?course=1&band=high").headers["Location"] == "/login?next=/%3Fcourse%3D1%26band%3Dhigh"
    assert client.post("/search", data={"student": "11"}).status_code == 401
    assert login_page.audit.records == []


def test_a_user_logs_in_and_out(login_page):
    client = login_page.visitor()
    answer = log_in(client, "ben", next="/courses?x=1")
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/courses?x=1"
    page = client.get("/")
    assert page.status_code == 200
    assert "ben" in page.text
    cookies = httpx.Cookies(client.cookies)
    answer = client.post("/logout", data={"csrf": csrf_of(page.text)})
    assert answer.headers["Location"] == "/login"
    assert client.get("/").status_code == 303
    client.cookies = cookies
    assert client.get("/").status_code == 303, "a cookie that somebody has kept is worth nothing"
    looks = [(name, what, detail["address"]) for name, what, _, detail in login_page.audit.records]
    assert looks == [("ben", look, "127.0.0.1") for look in (Look.LOGIN, Look.LIST, Look.LOGOUT)]


def test_cookies_are_for_the_page_only(login_page):
    """Over TLS, which the proxy says, they are for TLS only."""
    plain = log_in(login_page.visitor(), "ada").headers.get_list("Set-Cookie")
    headers = {"Host": "risk.example.org", "X_Forwarded_Proto": "https", "X_Forwarded_For": "1.2.3.4"}
    proxied = login_page.visitor(PROXY, **headers)
    proxied.url = "https://risk.example.org"
    secure = log_in(proxied, "ada").headers.get_list("Set-Cookie")
    (session,) = [c for c in plain if c.startswith("risk-session-6080=")]
    assert {"HttpOnly", "Path=/", "SameSite=lax"} <= set(session.split("; "))
    assert "Domain" not in session
    assert "Expires" not in session
    (session,) = [c for c in secure if c.startswith("__Host-risk-session-6080=")]
    assert {"HttpOnly", "Path=/", "SameSite=lax", "Secure"} <= set(session.split("; "))
    assert proxied.get("/").status_code == 200
    assert login_page.audit.records[-1][3]["address"] == "1.2.3.4"


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("ada", "my guess"),
        ("ada", ""),
        ("nobody", PASSWORD),
        ("", PASSWORD),
        ("sam", ""),
        ("ADA", PASSWORD),
        ("a\0", "§"),
    ],
)
def test_a_wrong_name_or_password_says_no_more_than_that(login_page, name, password):
    client = login_page.visitor()
    answer = log_in(client, name, password, next="/courses")
    assert answer.status_code == 403
    assert "The name or the password is wrong." in answer.text
    assert 'value="/courses"' in answer.text
    assert not password or password not in answer.text
    assert client.get("/").status_code == 303
    assert [record[:2] for record in login_page.audit.records] == [(name, Look.LOGIN_REFUSED)]


def test_guessing_is_slowed(login_page):
    client = login_page.visitor()
    for _ in range(4):
        assert log_in(client, "ada", "wrong").status_code == 403
    for password in ("wrong", PASSWORD):
        answer = log_in(client, "ada", password)
        assert answer.status_code == 429
        assert answer.headers["Retry-After"] == "1"
        assert "wait 1\N{NO-BREAK SPACE}second, then" in answer.text
    assert len(login_page.audit.records) == 4
    login_page.clock.now += 1
    assert log_in(client, "ada").status_code == 303


def test_mistakes_before_a_right_password_are_forgotten(login_page):
    client = login_page.visitor()
    for _ in range(3):
        for _ in range(3):
            assert log_in(client, "ada", "wrong").status_code == 403
        assert log_in(client, "ada").status_code == 303


def test_guessing_through_a_proxy_is_slowed_by_the_guesser(login_page):
    """Not for all who come through the proxy."""
    for n in range(20):
        guesser = login_page.visitor(PROXY, X_Forwarded_For="6.6.6.6")
        assert log_in(guesser, f"user{n}", "wrong").status_code == 403
    assert log_in(guesser, "ada").status_code == 429
    assert log_in(login_page.visitor(PROXY, X_Forwarded_For="1.2.3.4"), "ada").status_code == 303


@pytest.mark.parametrize("change", ["no cookie", "other cookie", "no token", "other token"])
def test_another_site_cannot_log_anybody_in(login_page, change):
    client = login_page.visitor()
    csrf = csrf_of(client.get("/login").text)
    if "cookie" in change:
        client.cookies.clear()
    if change == "other cookie":
        client.get("/login")
    if "token" in change:
        csrf = csrf_of(login_page.visitor().get("/login").text) if change == "other token" else ""
    answer = client.post("/login", data={"user": "ada", "password": PASSWORD, "csrf": csrf})
    assert answer.status_code == 403
    assert "The form was too old" in answer.text
    assert login_page.audit.records == []
    assert log_in(client, "ada").status_code == 303


@pytest.mark.parametrize(
    "back",
    [
        "https://evil.com",
        "//evil.com",
        "/\\evil.com",
        "\\\\evil.com",
        "/\t/evil.com",
        "javascript:alert(1)",
        "/login",
        "é",
        "",
    ],
)
def test_the_login_leads_to_this_page_only(login_page, back):
    client = login_page.visitor()
    assert log_in(client, "ada", next=back).headers["Location"] == "/"
    assert 'name="next" value="/"' in login_page.visitor().get("/login", params={"next": back}).text


def test_the_form_shows_what_was_sent_as_text(login_page):
    answer = log_in(login_page.visitor(), '"><script>alert(1)</script>', "wrong")
    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;alert" in answer.text


def test_passwords_are_checked_two_at_a_time(login_page, monkeypatch):
    """Whoever sends many takes neither the memory nor all threads of the page."""
    monkeypatch.setattr(passwords, "_WAIT_S", 0.01)
    with passwords._AT_ONCE, passwords._AT_ONCE:  # noqa: SLF001
        answer = log_in(login_page.visitor(), "ada")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert log_in(login_page.visitor(), "ada").status_code == 303


@pytest.mark.parametrize("path", ["/loginx", "/health/", "/static", "/login/", "/courses/"])
def test_only_what_needs_no_login_is_free(login_page, path):
    """Nor does a redirect name the page's own address, which may be another than the browser's."""
    answer = login_page.visitor().get(path)
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("/login")
    assert login_page.logged_in("ada").get(path).status_code == 404


def test_a_login_that_cannot_be_recorded_is_none(login_page):
    client = login_page.visitor()
    login_page.audit.is_broken = True
    answer = log_in(client, "ada")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    login_page.audit.is_broken = False
    assert client.get("/").status_code == 303


def test_what_cannot_be_recorded_is_not_shown(login_page):
    client = login_page.logged_in("ada")
    login_page.audit.is_broken = True
    for url in ("/", f"/student/{login_page.token(11, 1)}", "/students.csv", "/course/1", "/cases.csv"):
        answer = client.get(url)
        assert answer.status_code == 503, url
        assert "11" not in re.sub(r"<[^>]*>", "", answer.text)


def test_a_login_ends_after_the_hours_of_the_setting(login_page):
    client = login_page.logged_in("ada")
    login_page.clock.now += 12 * 3600 - 1
    assert client.get("/").status_code == 200
    login_page.clock.now += 2
    assert client.get("/").status_code == 303
    login_page.logged_in("ben")
    rows = login_page.services.database.read().execute("SELECT user FROM login").fetchall()
    assert [tuple(row) for row in rows] == [("ben",)], "what has ended is deleted"


def test_the_database_has_nothing_with_which_one_gets_in(login_page):
    client = login_page.logged_in("ada")
    ((hashed, csrf),) = login_page.services.database.read().execute("SELECT hash, csrf FROM login").fetchall()
    (cookie,) = client.cookies.values()
    assert cookie.encode() not in hashed
    assert csrf != cookie
    for value in (hashed.hex(), csrf):
        thief = login_page.visitor()
        thief.cookies.set("risk-session-6080", value)
        assert thief.get("/").status_code == 303


def test_a_new_login_replaces_the_former(login_page):
    client = login_page.logged_in("ada")
    (former,) = client.cookies.values()
    assert log_in(client, "ben").status_code == 303
    assert "ben" in client.get("/").text
    client.cookies.clear()
    client.cookies.set("risk-session-6080", former)
    assert client.get("/").status_code == 303


@pytest.mark.parametrize(
    "now",
    [
        [],
        [User("ada", None, PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("another one"))],
        [User("ada", None)],
    ],
    ids=["removed", "another password", "no password"],
)
def test_a_change_of_the_user_ends_the_login(login_page, now):
    client = login_page.logged_in("ada")
    write(login_page.users, now)
    assert client.get("/").status_code == 303


def test_while_the_users_cannot_be_read_nobody_gets_in(login_page, caplog):
    client = login_page.logged_in("ada")
    csrf = csrf_of(client.get("/").text)
    login_page.users.write_text("{")
    for answer in (client.get("/"), client.post("/search", data={"csrf": csrf}), log_in(login_page.visitor(), "ada")):
        assert answer.status_code == 503
        assert "list of users cannot be read" in answer.text
        assert str(login_page.users) not in answer.text
    assert "line 1 is not JSON" in caplog.text
    write(login_page.users, [User("ada", None, HASH)])
    assert client.get("/").status_code == 200


# -- forms


@pytest.fixture
def post(login_page: Place) -> Callable[..., Any]:
    """Post to /search as ada does."""
    client = login_page.logged_in("ada")
    csrf = csrf_of(client.get("/").text)

    def post(form: dict[str, str] | None = None, **options: Any) -> Any:
        body = {} if options.keys() & {"data", "content", "json", "files"} else {"data": {"csrf": csrf, **(form or {})}}
        return client.post("/search", **body, **options)

    return post


def test_a_form_of_the_page_is_accepted(post, login_page):
    answer = post({"student": "11"})
    assert answer.status_code == 303
    assert answer.headers["Location"] == f"/student/{login_page.token(11, 1)}"
    assert post({"student": "11"}, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 303


def test_a_form_without_the_token_of_the_login_is_refused(post, login_page):
    """Nor is one with the token of another login of the same user."""
    other = csrf_of(login_page.logged_in("ada").get("/").text)
    records = len(login_page.audit.records)
    for csrf in ("", "x", "é", other):
        answer = post({"csrf": csrf, "student": "11"})
        assert answer.status_code == 403
        assert "Nothing was changed" in answer.text
    assert post(data={"student": "11"}).status_code == 403
    assert len(login_page.audit.records) == records


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_form_on_another_site_is_refused(post, site):
    assert post({"student": "11"}, headers={"Sec-Fetch-Site": site}).status_code == 403


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"json": {"student": "11"}}, 415),
        ({"files": {"student": b"11"}}, 415),
        ({"data": {"csrf": "x", "note": "x" * 70_000}}, 413),
        ({"content": b"\xff", "headers": {"Content-Type": FORM}}, 400),
        ({"content": b"csrf=%ff", "headers": {"Content-Type": FORM}}, 400),
        ({"content": b"&".join([b"a=b"] * 101), "headers": {"Content-Type": FORM}}, 400),
        ({"content": b"csrf=x", "headers": {"Content-Type": f"{FORM}; charset=utf-8"}}, 403),
    ],
)
def test_what_is_no_form_is_refused(post, options, status):
    assert post(**options).status_code == status


@pytest.mark.parametrize("page", ["open_page", "sso_page"])
def test_pages_without_logins_have_tokens_too(request, page):
    place = request.getfixturevalue(page)
    client = place.visitor(PROXY, X_Remote_User="ada") if page == "sso_page" else place.visitor()
    csrf = csrf_of(client.get("/").text)
    assert client.post("/search", data={"student": "11", "csrf": csrf}).status_code == 303
    assert client.post("/search", data={"student": "11", "csrf": csrf[::-1]}).status_code == 403
    if page == "sso_page":
        other = csrf_of(place.visitor(PROXY, X_Remote_User="ben").get("/").text)
        assert client.post("/search", data={"student": "11", "csrf": other}).status_code == 403


# -- the proxy of a single sign-on


def test_the_proxy_says_who_asks(sso_page):
    assert "ada" in sso_page.visitor(PROXY, X_Remote_User="ada").get("/").text
    page = sso_page.visitor(PROXY, X_Remote_User="sam", X_Forwarded_For="1.2.3.4").get("/")
    assert page.status_code == 200
    assert "Log out" not in page.text
    assert sso_page.audit.records[-1][0] == "sam"
    assert sso_page.audit.records[-1][3]["address"] == "1.2.3.4"


@pytest.mark.parametrize(
    ("address", "names", "text"),
    [
        (ELSEWHERE, ["ada"], "sign-on only"),
        ("127.0.0.1", ["ada"], "sign-on only"),
        (PROXY, [], "did not say who you are"),
        (PROXY, [""], "did not say who you are"),
        (PROXY, ["ada", "ada"], "did not say who you are"),
        (PROXY, ["ada", "ben"], "did not say who you are"),
        (PROXY, ["a" * 201], "did not say who you are"),
        (PROXY, [b"\xff"], "did not say who you are"),
        (PROXY, ["nobody"], "nobody"),
        (PROXY, ["<b>x</b>"], "&lt;b&gt;x&lt;/b&gt;"),
        (PROXY, ["ADA"], "ADA"),
    ],
)
def test_whom_the_proxy_does_not_name_gets_nothing(sso_page, address, names, text):
    client = sso_page.visitor(address)
    for url in ("/", "/students.csv", "/changes", "/status", f"/student/{sso_page.token(11, 1)}"):
        headers = [(b"Host", b"localhost"), *((b"X-Remote-User", as_bytes(name)) for name in names)]
        answer = client.get(url, headers=headers)
        assert answer.status_code == 403
        assert text in answer.text
    assert sso_page.audit.records == []


def test_behind_a_sign_on_there_is_no_login(sso_page):
    client = sso_page.visitor(PROXY, X_Remote_User="ada")
    assert client.get("/login").status_code == 404
    assert client.post("/login", data={"user": "ada"}).status_code == 404
    assert client.post("/logout", data={"csrf": csrf_of(client.get("/").text)}).status_code == 404


# -- courses


def test_what_is_outside_of_ones_courses_does_not_exist(login_page):
    """The answer is the same as for what nobody has."""
    ben = login_page.logged_in("ben")
    nothing = ben.get(f"/student/{login_page.token(99, 1)}")
    assert nothing.status_code == 404
    for url in (
        f"/student/{login_page.token(21, 2)}",
        "/course/2",
        "/?course=2",
        "/students.csv?course=2",
        "/changes?course=2",
    ):
        answer = ben.get(url)
        assert answer.status_code == 404, url
        assert answer.content == nothing.content, url
    csrf = csrf_of(ben.get("/").text)
    form = {"csrf": csrf, "kind": "contact", "version": "0", "action_id": "a" * 20, "note": ""}
    assert ben.post(f"/student/{login_page.token(21, 2)}/case", data=form).status_code == 404
    assert ben.post("/search", data={"csrf": csrf, "student": "21"}).status_code == 404
    seen = {key for name, _, entries, _ in login_page.audit.records if name == "ben" for key in entries}
    assert {course for _, course in seen} == {1}


def test_lists_and_exports_have_ones_courses_only(login_page):
    ben, ada = login_page.logged_in("ben"), login_page.logged_in("ada")
    for url in ("/", "/students.csv", "/courses"):
        assert not re.search(r"\b2[123]\b|[Cc]ourse.2\b", ben.get(url).text), url
    assert re.search(r"\b21\b", ada.get("/students.csv").text)
    tokens = "&".join(f"s={login_page.token(*entry)}" for entry in ENTRIES)
    rows = ben.get(f"/rows?{tokens}").text
    assert login_page.token(11, 1) in rows
    assert login_page.token(21, 2) not in rows


def test_ids_are_not_in_urls(login_page, place, tmp_path):
    client = login_page.logged_in("ada")
    for url in ("/", f"/student/{login_page.token(11, 1)}", "/courses", "/course/1"):
        links = re.findall(r'(?:href|action)="(/[^"]*)"', client.get(url).text)
        assert links
        assert [link for link in links if re.search(r"\b[12][123]\b", link)] == []
    plain = place(RISK_PAGE_IDS_IN_URL="yes")
    assert 'href="/student/11.1' in plain.visitor().get("/").text


# -- what takes long


def scope_of(client: Browser, method: str, path: str) -> dict[str, Any]:
    """Return a request of a browser as the server hands it to the page."""
    cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    head = [(b"host", b"localhost"), (b"cookie", cookies.encode()), (b"content-type", FORM.encode())]
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": head, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 6080),
    }  # fmt: skip


@pytest.mark.parametrize("answer", [{"type": "http.disconnect"}, None], ids=["gone", "silent"])
def test_a_form_that_does_not_arrive_holds_nothing_up(login_page, monkeypatch, answer):
    monkeypatch.setattr(middleware, "_FORM_S", 0.05)
    scope, sent = scope_of(login_page.logged_in("ada"), "POST", "/search"), []

    async def receive() -> Any:
        return answer or await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(asyncio.wait_for(login_page.app(scope, receive, send), 5))
    assert sent[0]["status"] == (400 if answer else 408)
    assert len(login_page.audit.records) == 1


def test_a_stream_ends_when_its_visitor_may_no_longer_see_the_same(login_page, monkeypatch):
    """Changes go to those who may see them, until the administrator says otherwise."""
    monkeypatch.setattr(middleware, "RECHECK_S", 0.05)
    scope = scope_of(login_page.logged_in("ben"), "GET", "/changes")
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if sent:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    async def watch() -> None:
        stream = asyncio.ensure_future(login_page.app(scope, receive, send))
        await asyncio.sleep(0.3)
        assert sent[0]["status"] == 200
        assert not stream.done()
        assert len(login_page.services.hub) == 1
        write(login_page.users, [User("ben", frozenset({1, 2}), HASH)])
        await asyncio.wait_for(stream, 5)

    asyncio.run(watch())
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert len(login_page.services.hub) == 0


def test_a_probe_needs_no_login(login_page):
    client = login_page.visitor()
    assert client.get("/health").json() == {"state": "live", "share": 1.0, "problem": None}
    login_page.services.follower.state = State(Phase.FAILED, 0.5, "no broker")
    answer = client.get("/health")
    assert answer.status_code == 503
    assert answer.json() == {"state": "failed", "share": 0.5, "problem": "no broker"}
