"""Settings come from the environment; an invalid value is an error of one line that names the variable."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from app.errors import ConfigError
from app.ops.preflight import check_names
from app.settings import Settings
from app.upstream.connections import addresses
from models.counting import CountingRules


def test_an_empty_environment_gives_the_defaults():
    """Every setting has a default."""
    settings = Settings.from_env({})
    assert settings == Settings()
    assert settings.unit_ms == 1


def test_variables_are_converted_to_their_types():
    """Lists, numbers and paths are parsed; other variables are ignored."""
    settings = Settings.from_env(
        {"RISK_BROKER": "a:1, b:2", "RISK_TIME_UNIT": "s", "RISK_WEB_PORT": "7000", "RISK_DATADIR": "/x", "OTHER": "?"}
    )
    assert settings.brokers == ["a:1", "b:2"]
    assert (settings.unit_ms, settings.web_port, settings.datadir) == (1000, 7000, Path("/x"))


def test_brokers_may_have_ipv6_addresses() -> None:
    brokers = Settings.from_env({"RISK_BROKER": "[::1]:9092,kafka:9093"}).brokers
    assert addresses(brokers) == [("::1", 9092), ("kafka", 9093)]
    check_names("RISK_BROKER", [server.rpartition(":")[0] for server in brokers[:1]])


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RISK_BROKER", "localhost"),
        ("RISK_BROKER", "a:1,,b:2"),
        ("RISK_BROKER", "a:99999"),
        ("RISK_SCHEMA_REGISTRY", "registry:8081"),
        ("RISK_SOURCE_TOPIC", "a b"),
        ("RISK_SOURCE_TOPIC", ""),
        ("RISK_TOPIC_PREFIX", "ä."),
        ("RISK_APP_ID", "x" * 201),
        ("RISK_EMIT", "all"),
        ("RISK_TIME_UNIT", "us"),
        ("RISK_WEB_PORT", "http"),
        ("RISK_WEB_PORT", "-1"),
        ("RISK_STORE", "redis://"),
        ("RISK_SESSION_TIMEOUT", "0"),
        ("RISK_BATCH_ROWS", "-1"),
        ("RISK_REPLICATION", "0"),
        ("RISK_IGNORE_USERS", "guest"),
        ("RISK_IGNORE_USERS", "1;2"),
        ("RISK_SUBMISSION_EVENTS", "mod_assigneventassessable_submitted"),
        ("RISK_SUBMISSION_EVENTS", "\\mod_assign\\event\\a b"),
        ("RISK_COURSES", "course"),
        ("RISK_TIMEZONE", ""),
        ("RISK_TIMEZONE", "Europe"),
        ("RISK_TIMEZONE", "Europe/Atlantis"),
        ("RISK_TIMEZONE", "../UTC"),
        ("RISK_TIMEZONE", "a" * 5000),
        ("RISK_ALERT_BUDGET", "-1"),
        ("RISK_ALERT_BUDGET", "few"),
        ("RISK_PAGE_BIND", ""),
        ("RISK_PAGE_BIND", "[]"),
        ("RISK_PAGE_PORT", "0"),
        ("RISK_PAGE_PORT", "65536"),
        ("RISK_PAGE_HISTORY_DAYS", "6"),
        ("RISK_PAGE_AUDIT_DAYS", "0"),
        ("RISK_PAGE_LOGIN_HOURS", "0"),
        ("RISK_PAGE_LOGIN_HOURS", "nan"),
        ("RISK_PAGE_STALE_HOURS", "-1"),
        ("RISK_PAGE_IDS_IN_URL", "maybe"),
        ("RISK_PAGE_PROXIES", "proxy.example.org"),
        ("RISK_PAGE_PROXIES", "10.0.0.7/24"),
        ("RISK_PAGE_PROXIES", "10.0.0.7,0.0.0.0/0"),
        ("RISK_PAGE_PROXIES", "::/0"),
        ("RISK_MOODLE_URL", "moodle.example.org"),
        ("RISK_MOODLE_URL", "javascript:alert(1)"),
        ("RISK_MOODLE_URL", "https://ada:secret@moodle.example.org"),
        ("RISK_MOODLE_URL", "https://moodle.example.org/?x=1"),
        ("RISK_MOODLE_URL", "https://moodle.example.org:port"),
        ("RISK_MOODLE_URL", "https://[moodle"),
    ],
)
def test_an_invalid_value_is_refused_in_one_line_that_names_the_variable(variable, value):
    with pytest.raises(ConfigError) as caught:
        Settings.from_env({variable: value})
    assert str(caught.value).startswith(variable)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("RISK_BATCH_ROWS", "1e4", "'1e4' is not a whole number"),
        ("RISK_STALL_TIMEOUT", "soon", "'soon' is not a number"),
        ("RISK_STALL_TIMEOUT", "4", "4 s is not within 5 to 3600"),
        ("RISK_BROKER", "http://kafka:9092", "'http://kafka:9092' is not host:port, e.g. 127.0.0.1:9092"),
    ],
)
def test_the_line_says_what_is_expected(variable, value, message):
    with pytest.raises(ConfigError) as caught:
        Settings.from_env({variable: value})
    assert str(caught.value) == f"{variable}: {message}"


def test_a_misspelt_variable_is_named():
    """Not those that Kubernetes makes of a service, nor other programs'."""
    others = {"RISK_PAGE_PORT_6080_TCP_ADDR": "1", "RISK_PAGE_SERVICE_PORT": "1", "RISK_CONNECT": "1", "BROKER": "1"}
    known = dict.fromkeys(("RISK_BROKER", "RISK_APP_ID"), "x")
    assert Settings.misspelt({**known, **others}) == []
    assert Settings.misspelt({**known, "RISK_BROKR": "1", "RISK_TIMEUNIT": "s"}) == [
        "RISK_BROKR is set, and is no setting: did you mean RISK_BROKER?",
        "RISK_TIMEUNIT is set, and is no setting: did you mean RISK_TIME_UNIT?",
    ]


def test_the_list_of_settings_is_complete():
    """`faust -A app settings` is their only documentation."""
    text = " ".join(Settings.describe().split())
    for f in fields(Settings):
        assert f.metadata["variable"] in text
        assert f.metadata["text"] in text


def test_credentials_in_an_invalid_registry_url_are_not_shown():
    """The error names the variable and shows the rest of the URL."""
    for url in ("kim:secret@registry:8081", "http://kim:secret@registry:port", "http://kim:a/secret@registry"):
        with pytest.raises(ConfigError) as caught:
            Settings.from_env({"RISK_SCHEMA_REGISTRY": url})
        assert "RISK_SCHEMA_REGISTRY" in str(caught.value)
        assert "secret" not in str(caught.value)
        assert "registry" in str(caught.value)


def test_what_counts_for_the_risk_is_set():
    """Lists may have spaces, or be empty; a course is told apart by default."""
    rules = Settings.from_env(
        {"RISK_IGNORE_USERS": " 1, 2,", "RISK_SUBMISSION_EVENTS": r"\a\event\b, \c\event\d"}
    ).counting
    assert rules == CountingRules(frozenset({1, 2}), (r"\a\event\b", r"\c\event\d"), True)
    none = {"RISK_IGNORE_USERS": "", "RISK_SUBMISSION_EVENTS": "", "RISK_COURSES": "site"}
    assert Settings.from_env(none).counting == CountingRules(frozenset(), (), False)
    assert Settings().counting == CountingRules()
    assert Settings.from_env({"RISK_TIMEZONE": "Europe/London"}).zone == ZoneInfo("Europe/London")


def test_what_the_page_is_told_of_proxies():
    """Addresses and networks; a header needs them, and the file with the courses of its users."""
    proxies = {"RISK_PAGE_PROXIES": "10.0.0.7, 2001:db8::/32,"}
    assert [str(network) for network in Settings.from_env(proxies).page_networks] == ["10.0.0.7/32", "2001:db8::/32"]
    header = {"RISK_PAGE_USER_HEADER": "X-Remote-User"}
    users = {"RISK_PAGE_USERS": "users"}
    assert not Settings.from_env({**header, **proxies, **users}).page_is_open
    assert Settings.from_env(proxies).page_is_open
    for variables, missing in (
        (header, "RISK_PAGE_PROXIES"),
        ({**header, **users}, "RISK_PAGE_PROXIES"),
        ({**header, **proxies}, "RISK_PAGE_USERS"),
        ({**proxies, **users, "RISK_PAGE_USER_HEADER": "X Remote"}, "RISK_PAGE_USER_HEADER"),
        ({**proxies, **users, "RISK_PAGE_USER_HEADER": "X_Remote_User"}, "RISK_PAGE_USER_HEADER"),
    ):
        with pytest.raises(ConfigError, match=rf"^{missing}\b"):
            Settings.from_env(variables)


def test_the_page_has_names():
    settings = Settings.from_env({"RISK_PAGE_BIND": "[::1]", "RISK_PAGE_HOSTS": "risk.example.org, .example.com,"})
    assert settings.page_address == "::1"
    assert settings.page_names == ["::1", "risk.example.org", ".example.com"]
