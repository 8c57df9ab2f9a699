"""moodle-risk: `faust -A app worker` runs it, app/topology.py declares it."""

from __future__ import annotations

import os
import sys

from app.errors import ConfigError
from app.settings import Settings
from app.topology import build
from tools import commands

#: importing the commands is what registers them with `faust -A app`
__all__ = ["app", "commands"]

try:
    #: the app `faust -A app` finds; the one thing in this code base that is made at import
    app = build(Settings.from_env(os.environ))
except ConfigError as error:
    print(f"moodle-risk: {error}", file=sys.stderr)
    raise SystemExit(1) from None
