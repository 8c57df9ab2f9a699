"""From where a request comes: only proxies that are named in the settings are believed."""

from __future__ import annotations

import ipaddress

import pytest

from page.access.origin import Origin, origin_of

PROXIES = tuple(ipaddress.ip_network(text) for text in ("10.0.0.7", "10.1.0.0/16", "2001:db8::7"))


def origin(client: str, scheme: str = "http", **headers: str | list[str]) -> Origin:
    pairs = [
        (name.replace("_", "-").encode(), value.encode())
        for name, values in headers.items()
        for value in ([values] if isinstance(values, str) else values)
    ]
    return origin_of(client, scheme, pairs, PROXIES)


def test_what_a_stranger_says_of_itself_is_not_believed():
    seen = origin("10.0.0.8", x_forwarded_for="1.2.3.4", x_forwarded_proto="https")
    assert seen == Origin("10.0.0.8", secure=False, trusted=False, forwarded=True)


def test_a_direct_request():
    assert origin("10.0.0.8") == Origin("10.0.0.8", secure=False, trusted=False, forwarded=False)
    assert origin("10.0.0.8", "https").secure


@pytest.mark.parametrize("header", ["forwarded", "x_forwarded_host", "x_forwarded_for", "x_forwarded_proto"])
def test_a_request_through_a_proxy_says_so(header):
    assert origin("127.0.0.1", **{header: "x"}).forwarded


@pytest.mark.parametrize("client", ["10.0.0.7", "10.1.2.3", "::ffff:10.0.0.7", "2001:db8::7"])
def test_a_proxy_that_is_named_says_from_where_and_how(client):
    seen = origin(client, x_forwarded_for="1.2.3.4", x_forwarded_proto="https")
    assert seen == Origin("1.2.3.4", secure=True, trusted=True, forwarded=True)


@pytest.mark.parametrize(
    ("chain", "address"),
    [
        ("6.6.6.6, 1.2.3.4", "1.2.3.4"),  # a browser has sent the first
        ("6.6.6.6, 1.2.3.4, 10.1.0.5", "1.2.3.4"),  # two proxies of ours
        (["6.6.6.6", "1.2.3.4"], "1.2.3.4"),
        ("10.1.0.5", "10.1.0.5"),
        ("<script>", ""),
        ("1.2.3.4\r\nx: y", ""),
        ("[2001:db8::9]", "2001:db8::9"),
        ([], "10.0.0.7"),
    ],
)
def test_the_address_is_the_first_from_the_right_that_is_no_proxy(chain, address):
    assert origin("10.0.0.7", x_forwarded_for=chain).address == address


def test_the_nearest_proxy_says_whether_tls_is_used():
    assert not origin("10.0.0.7", x_forwarded_proto="https, http").secure
    assert origin("10.0.0.7", x_forwarded_proto=["http", "HTTPS"]).secure
