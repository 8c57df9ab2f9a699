"""Errors that every layer may raise."""

from __future__ import annotations


class ConfigError(Exception):
    """The program cannot start; the message names the setting, topic or column to change."""
