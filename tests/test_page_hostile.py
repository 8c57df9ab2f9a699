"""Hostile data on the advisers' page: shown as text, or refused with a reason."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import urlencode

import httpx
import pytest
from playwright.sync_api import Browser, expect

import stack
from codec.record import NO_HEADERS, Row
from tests.support.cluster import until
from tests.support.page import Site, chromium, overflow, running_site, visit
from tests.support.page_rows import DAY_MS, REASON, TODAY, dead_letter, risk_row, session_row

pytestmark = [pytest.mark.browser, pytest.mark.broker]

COURSE = 13
MARKUP = "<script>window.hurt=1</script><img src=x onerror=window.hurt=1>\"'`{{7*7}}${7*7}"
#: right-to-left override and isolate, which would turn what follows; a text of 10 kB without a place to break
TURNED, LONG = "\u202eevil\u2066gnp.exe", "W" * 10_000
#: texts that somebody may have put where the page shows text
TEXTS = {
    "markup": MARKUP,
    "turned": TURNED,
    "long": LONG,
    "null": "a\u0000b",
    "lines": "a\n\n\nb\r\tc",
    "lone": "\ud800",
}


def hostile_rows() -> list[Row]:
    """Rows of MOODLE_RISK whose texts are hostile, and rows that are none."""
    good = [
        risk_row(1000 + i, COURSE, 0.9, "HIGH", REASONS=[{**REASON, "TEXT": text}], MODEL=f"v2s-{text}")
        for i, text in enumerate(TEXTS.values())
    ]
    at = TODAY * DAY_MS
    ids = [risk_row(student, COURSE, 0.4, "RAISED") for student in (2**63 - 1, 1)]
    bad = [
        b"", b"null", b"[]", b"{", b'"text"', b"\xff\xfe", b"{}", b"[" * 100_000, b'{"USERID":NaN}',
        json.dumps({"USERID": "<b>", "COURSEID": COURSE}).encode(),
        json.loads(b'"x"').encode() * 500_000,
    ]  # fmt: skip
    changed = [
        {"USERID": 2**63}, {"USERID": 2**200}, {"USERID": True}, {"USERID": 1.5}, {"COURSEID": "13"}, {"RISK": "0.5"},
        {"RISK": 7}, {"RISK": -1}, {"BAND": MARKUP}, {"REASONS": "x"}, {"REASONS": [1]}, {"REASONS": [{}] * 1000},
        {"AS_OF": "2013-02-31"}, {"AS_OF": "9999-99-99"}, {"SINCE": 5}, {"VISIT_DAYS": "zz"}, {"VISIT_DAYS": "f" * 17},
        {"ALERT": "true"}, {"COHORT_N": -5}, {"COHORT_N": 10**30}, {"MODEL": None},
    ]  # fmt: skip
    for fields in changed:
        _, _key, value, _headers = risk_row(2000, COURSE, 0.9, "HIGH")
        bad.append(json.dumps({**json.loads(value or b""), **fields}).encode())
    return [*good, *ids, *((at, b"2000|13", value, NO_HEADERS) for value in bad)]


@pytest.fixture(scope="module")
def site(cluster: stack.Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A page over hostile topics: the last row of each is a good one, which shows that nothing has stopped it."""
    with running_site(cluster, tmp_path_factory.mktemp("hostile"), rows=False) as site:
        names = site.deployment.names
        site.send(
            names.dead_letters,
            [
                dead_letter(
                    text.encode("utf-8", "replace").decode()[:1000], 3, text.encode("utf-8", "replace").decode()
                )
                for text in TEXTS.values()
            ],
        )
        site.send(names.sessions, [
            (1, b"", b"", NO_HEADERS), (1, b"<b>", b"{}", NO_HEADERS), session_row(1000, -5, -5, -1),
            session_row(1000, TODAY * DAY_MS, TODAY * DAY_MS + 1, 2**62),
        ])  # fmt: skip
        site.send(names.risk_alerts, [(1, b"\x00", b"{", NO_HEADERS), (1, None, b"\xff", NO_HEADERS)])
        site.send_risk(*hostile_rows(), (1, b"", b"{}", NO_HEADERS), (1, b"\xff|\x00", None, NO_HEADERS))
        site.send_risk(risk_row(3000, COURSE, 0.3, "LOW", HEADER=MARKUP))
        with site.client() as client:
            until(lambda: client.get(f"/?course={COURSE}&sort=student").text, lambda text: ">3000<" in text)
        yield site


def test_hostile_texts_are_shown_as_text(site: Site) -> None:
    """In the list, on each student's page, in the export and on the status page."""
    with chromium() as browser:
        _look(site, browser)


def _look(site: Site, browser: Browser) -> None:
    with visit(browser, viewport={"width": 1280, "height": 900}) as seen:
        tab = seen.goto(f"{site.url}/?course={COURSE}&sort=student")
        addresses = [str(a.get_attribute("href")) for a in tab.locator("table.students tbody th a").all()]
        assert len(addresses) >= 5
        expect(tab.locator("table.students")).to_contain_text("<script>window.hurt=1</script>")
        for address in ["/?course=13", "/status", "/courses", f"/course/{COURSE}", "/model", *addresses]:
            tab = seen.goto(site.url + address)
            assert tab.evaluate("window.hurt") is None
            assert "49" not in re.findall(r"\$?\{?\{?7\*7|\b49\b", tab.locator("main").inner_text())
            for width in (1280, 360):
                tab.set_viewport_size({"width": width, "height": 740})
                assert overflow(tab) <= 0, (address, width)


def test_rows_that_cannot_be_read_are_counted_and_named(site: Site) -> None:
    log = site.page.log.read_text(encoding="utf-8", errors="replace")
    risk = site.deployment.names.risk
    assert re.search(rf"{re.escape(risk)}.*partition 0.*offset \d+", log), log[-2000:]
    assert "Traceback" not in log
    with site.client() as client:
        status = client.get("/status")
        assert status.status_code == 200
        assert "Rows that this page could not read" in status.text
        assert client.get("/health").json()["state"] == "live"


def test_the_export_starts_no_formula_in_a_spreadsheet(site: Site) -> None:
    site.send_risk(risk_row(3001, COURSE, 0.9, "HIGH", REASONS=[{**REASON, "TEXT": '=HYPERLINK("http://x")'}]))
    with site.client() as client:
        text = until(lambda: client.get(f"/students.csv?course={COURSE}").text, lambda text: "3001" in text)
    for cell in re.findall(r'(?:^|,)"?([^,\n]?)', text):
        assert cell not in ("=", "@", "+"), text


@pytest.mark.parametrize(
    ("address", "statuses"),
    [
        ("/student/" + "A" * 22, {404}),
        ("/student/" + "A" * 10_000, {404, 414}),
        ("/student/%00", {404}),
        ("/student/..%2f..%2fsecret", {404}),
        ("/static/../secret", {404}),
        ("/static/x/..%2f..%2fpage.sqlite3", {404}),
        ("/course/999999999999999999999", {404}),
        ("/course/-2", {404}),
        ("/course/%3Cscript%3E", {404}),
        ("/?course=%3Cscript%3E", {400}),
        ("/?course=1%27%20OR%201=1", {400}),
        ("/?page=999999", {200}),
        ("/?page=-1", {400}),
        ("/?sort=rank;drop", {400}),
        ("/?band=%00", {400}),
        ("/?" + "a=1&" * 5000, {200, 400, 414}),
        ("/students.csv?course=x", {400}),
        ("/rows?s=" + "A" * 22, {200, 404}),
    ],
)
def test_hostile_addresses_get_an_answer(address: str, statuses: set[int], site: Site) -> None:
    with site.client() as client:
        answer = client.get(address)
    assert answer.status_code in statuses, answer.text[:500]
    assert "<script>window" not in answer.text
    assert "Traceback" not in answer.text


def _form(client: httpx.Client) -> tuple[str, dict[str, str]]:
    """A student's address and the hidden fields of the form there."""
    listed = client.get(f"/?course={COURSE}&sort=student").text
    address = re.findall(r'href="(/student/[^"]+)"', listed)[0]
    page = client.get(address).text
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.split('id="case"')[1]))
    return address, hidden


@pytest.mark.parametrize("name", TEXTS)
def test_a_hostile_note_is_kept_as_text_or_refused_with_a_reason(name: str, site: Site) -> None:
    text = TEXTS[name]
    with site.client() as client:
        address, hidden = _form(client)
        body = urlencode({**hidden, "kind": "note", "note": text}, errors="surrogatepass")
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = client.post(f"{address}/case", content=body, headers=headers)
        if name in ("markup",):
            assert answer.status_code == 303, answer.text[:1000]
            page = client.get(address).text
            assert "&lt;script&gt;window.hurt=1" in page
            assert "<script>window" not in page
        elif name in ("long", "null", "lone"):
            assert answer.status_code in (400, 413, 422), answer.status_code
            assert len(re.sub(r"<[^>]+>", " ", answer.text).split()) > 5
        else:
            assert answer.status_code in (303, 422)


@pytest.mark.parametrize(
    "changes",
    [
        {"csrf": "x"},
        {"csrf": ""},
        {"version": "x"},
        {"version": "-1"},
        {"kind": "delete"},
        {"action_id": ""},
        {"action_id": "x" * 5000},
    ],
)
def test_a_forged_form_does_nothing(changes: dict[str, str], site: Site) -> None:
    with site.client() as client:
        address, hidden = _form(client)
        before = client.get(address).text.count('class="when"')
        answer = client.post(f"{address}/case", data={**hidden, "kind": "contact", "note": "", **changes})
        assert answer.status_code in (400, 403, 409, 422), answer.status_code
        assert client.get(address).text.count('class="when"') == before
