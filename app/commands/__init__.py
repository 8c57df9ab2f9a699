"""The commands of `faust -A app`: importing this registers them."""

from __future__ import annotations

from app.commands import demo, parity, replay, settings, smoke, train

__all__ = ["demo", "parity", "replay", "settings", "smoke", "train"]
