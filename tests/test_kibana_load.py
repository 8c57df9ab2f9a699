"""kibana/load.py against a stub of Kibana's API."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
import trustme

from kibana import load
from tests.support.stub_server import StubServer, running

COUNT = len(load.FILE.read_text().splitlines())
TAKEN = {"successCount": COUNT, "success": True, "warnings": [], "successResults": []}


class Stub(StubServer):
    """The part of Kibana's API that the command uses."""

    def __init__(self) -> None:
        super().__init__()
        #: responses of /api/status, one per poll; the last one repeats
        self.statuses: list[tuple[int, Any]] = [status("available")]
        #: responses to imports, likewise
        self.imports: list[tuple[int, Any]] = [(200, TAKEN)]
        self.seen: list[tuple[str, dict[str, str], bytes]] = []

    def answer(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        if (method, path) == ("GET", "/api/status"):
            return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        assert method == "POST"
        self.seen.append((path, headers, body))
        return self.imports.pop(0) if len(self.imports) > 1 else self.imports[0]


def status(level: str) -> tuple[int, Any]:
    code = 200 if level == "available" else 503
    return code, {"version": {"number": "8.19.14"}, "status": {"overall": {"level": level}}}


@pytest.fixture
def kibana(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    monkeypatch.setattr(load, "POLL_S", 0.005)
    with running(Stub()) as stub:
        yield stub


@pytest.fixture
def run(kibana: Stub) -> Callable[..., int]:
    def command(*arguments: str, timeout: float = 20) -> int:
        return load.main([f"--url={kibana.url}", f"--timeout={timeout:g}", *arguments])

    return command


def part_of(headers: dict[str, str], body: bytes) -> EmailMessage:
    """Return the only part of a multipart body."""
    head = f"Content-Type: {headers['content-type']}\r\n\r\n".encode()
    (part,) = BytesParser(policy=default).parsebytes(head + body).iter_parts()
    assert isinstance(part, EmailMessage)
    return part


def test_it_waits_for_kibana_and_sends_the_file_unchanged(
    kibana: Stub, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """It polls while Kibana is down, a proxy answers HTML, or Kibana starts. Then it sends one overwriting import."""
    kibana.statuses = [
        (503, b"Kibana server is not ready yet"),
        (502, b"<html>"),
        status("degraded"),
        status("available"),
    ]
    assert run() == 0
    ((path, headers, body),) = kibana.seen
    assert path == "/api/saved_objects/_import?overwrite=true"
    assert headers["kbn-xsrf"]
    part = part_of(headers, body)
    assert part.get_content_disposition() == "form-data"
    assert part.get_param("name", header="content-disposition") == "file"
    assert (part.get_filename() or "").endswith(".ndjson")  # Kibana rejects other extensions
    assert body.count(load.FILE.read_bytes()) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"Kibana 8.19.14 at {kibana.url}",
        f"{COUNT} saved objects imported from moodle-risk.ndjson",
    ]


def test_success_false_with_http_200_is_a_failure_with_a_line_for_each_object(
    kibana: Stub, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    errors = [
        {
            "type": "dashboard",
            "id": "moodle-risk",
            "error": {"type": "missing_references", "references": [{"id": "x"}]},
        },
        {"type": "index-pattern", "id": "y", "error": {"type": "unknown", "message": "no\nsuch", "statusCode": 500}},
    ]
    kibana.imports = [(200, {"successCount": COUNT - 2, "success": False, "errors": errors})]
    assert run() == 1
    assert capsys.readouterr().err.splitlines() == [
        'load: dashboard moodle-risk: missing_references, {"references": [{"id": "x"}]}',
        'load: index-pattern y: unknown, no such, {"statusCode": 500}',
        f"load: imported {COUNT - 2} of {COUNT} saved objects",
    ]


@pytest.mark.parametrize(
    "answer", [{"success": True, "successCount": COUNT - 1}, {"successCount": COUNT}, {"success": "true"}, b"OK"]
)
def test_an_import_succeeds_only_if_all_objects_do(kibana: Stub, run: Callable[..., int], answer: Any) -> None:
    kibana.imports = [(200, answer)]
    assert run() == 1


def test_a_rejected_file_is_reported_at_once_on_one_line(
    kibana: Stub, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Kibana answers 422 to an object of a later version."""
    message = "Document moodle-risk belongs to a more recent\nversion of Kibana"
    kibana.imports = [(422, {"statusCode": 422, "error": "Unprocessable Entity", "message": message})]
    assert run() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"load: Kibana rejected the file (HTTP 422): {' '.join(message.split())}"
    assert len(kibana.seen) == 1


def test_an_import_that_comes_too_early_is_retried(kibana: Stub, run: Callable[..., int]) -> None:
    kibana.imports = [(503, {"message": "not ready"}), (429, {}), (200, TAKEN)]
    assert run() == 0
    assert len(kibana.seen) == 3


def test_it_times_out_if_kibana_never_becomes_available(
    kibana: Stub, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    kibana.statuses = [status("unavailable")]
    assert run(timeout=0.05) == 1
    assert capsys.readouterr().err == f"load: {kibana.url} is not ready: unavailable (timed out)\n"
    assert not kibana.seen


def test_it_times_out_if_no_server_listens(capsys: pytest.CaptureFixture[str]) -> None:
    stub = Stub()
    stub.server_close()
    assert load.main([f"--url={stub.url}", "--timeout=0.05"]) == 1
    err = capsys.readouterr().err
    assert f"{stub.url} is not ready: " in err
    assert err.count("\n") == 1


class Guarded(Stub):
    """Kibana with a login."""

    def answer(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        if headers.get("authorization") != self.login:
            return 401, {"statusCode": 401, "message": "Unauthorized"}
        return super().answer(method, path, body, headers)

    login = "Basic " + base64.b64encode(b"ada:p:w").decode()


def test_a_login_and_an_api_key_are_sent_and_never_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(Guarded()) as kibana:
        url = f"--url={kibana.url}"
        assert load.main([url, "--timeout=20"]) == 1
        why = "refuses the login (HTTP 401): set KIBANA_USER and KIBANA_PASSWORD"
        assert capsys.readouterr().err == f"load: {kibana.url} {why}\n"
        assert load.main([url.replace("//", "//ada:p:w@"), "--timeout=20"]) == 0
        monkeypatch.setenv("KIBANA_USER", "ada")
        monkeypatch.setenv("KIBANA_PASSWORD", "p:w")
        assert load.main([url, "--timeout=20"]) == 0
        kibana.login = "ApiKey a2V5"
        (tmp_path / "key").write_text("a2V5")
        monkeypatch.setenv("KIBANA_API_KEY_FILE", str(tmp_path / "key"))
        assert load.main([url, "--timeout=20"]) == 0
        assert len(kibana.seen) == 3
        printed = "".join(capsys.readouterr())
        assert f"at {kibana.url}\n" in printed
        assert not [secret for secret in ("p:w", "a2V5", "ada") if secret in printed]


def test_a_status_without_a_version_suffices(
    kibana: Stub, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Kibana tells its version only to those who have logged in."""
    kibana.statuses = [(200, {"status": {"overall": {"level": "available"}}})]
    kibana.imports = [(401, {"message": "Unauthorized"})]
    assert run() == 1
    assert capsys.readouterr().err == "load: Kibana rejected the file (HTTP 401): Unauthorized\n"


def test_a_certificate_is_checked_against_the_ca_that_is_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    kibana = Stub()
    kibana.socket = context.wrap_socket(kibana.socket, server_side=True)
    url = f"https://localhost:{kibana.server_address[1]}"
    with running(kibana):
        assert load.main([f"--url={url}", "--timeout=0.05"]) == 1
        err = capsys.readouterr().err
        assert f"load: {url} is not ready: " in err
        assert "certificate verify failed" in err
        assert err.count("\n") == 1
        monkeypatch.setenv("KIBANA_CA", str(tmp_path / "ca.pem"))
        assert load.main([f"--url={url}", "--timeout=20"]) == 0


@pytest.mark.parametrize("text", ["", "{}\n", "[1]\n", "no json\n"])
def test_other_files_are_not_sent(
    kibana: Stub, run: Callable[..., int], tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.ndjson"
    path.write_text(text)
    assert run(str(path)) == 1
    assert run(str(tmp_path / "none.ndjson")) == 1
    assert capsys.readouterr().err.count("\n") == 2
    assert not kibana.seen


def test_the_file_can_be_chosen(kibana: Stub, run: Callable[..., int], tmp_path: Path) -> None:
    path = tmp_path / "one.ndjson"
    path.write_text(json.dumps({"type": "index-pattern", "id": "x"}))
    kibana.imports = [(200, TAKEN | {"successCount": 1})]
    assert run(str(path)) == 0
