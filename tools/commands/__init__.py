"""The commands of `faust -A app`; importing this package registers them."""

from __future__ import annotations

from tools.commands import chaos, demo, parity, replay, settings, smoke, train

__all__ = ["chaos", "demo", "parity", "replay", "settings", "smoke", "train"]
