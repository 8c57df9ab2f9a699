"""The environment is read at one place, and a mistake in it is one line that names the variable."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from app.errors import ConfigError
from app.settings import Settings


def test_an_empty_environment_gives_the_defaults():
    """Everything has a default."""
    settings = Settings.from_env({})
    assert settings == Settings()
    assert settings.unit_ms == 1


def test_every_setting_can_be_set():
    """RISK_ variables arrive with their types."""
    settings = Settings.from_env(
        {"RISK_BROKER": "a:1, b:2", "RISK_TIME_UNIT": "s", "RISK_WEB_PORT": "7000", "RISK_DATADIR": "/x", "OTHER": "?"}
    )
    assert settings.brokers == ["a:1", "b:2"]
    assert (settings.unit_ms, settings.web_port, settings.datadir) == (1000, 7000, Path("/x"))


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
        ("RISK_WEB_PORT", "0"),
        ("RISK_STORE", "redis://"),
        ("RISK_SESSION_TIMEOUT", "0"),
        ("RISK_BATCH_ROWS", "-1"),
        ("RISK_REPLICATION", "0"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_variable(variable, value):
    """What cannot be meant is refused before anything starts."""
    with pytest.raises(ConfigError) as caught:
        Settings.from_env({variable: value})
    assert str(caught.value).startswith(variable)
    assert "\n" not in str(caught.value)


def test_the_list_of_settings_has_all_of_them():
    """`faust -A app settings` is the one place; README points there."""
    text = " ".join(Settings.describe().split())
    for f in fields(Settings):
        assert f.metadata["variable"] in text
        assert f.metadata["text"] in text
