"""moodle-risk: `faust -A app worker` runs it, app/topology.py declares it."""

from __future__ import annotations

import os
import sys

from app import commands
from app.errors import ConfigError
from app.settings import Settings
from app.topology import declare

commands.register()

try:
    #: the app that `faust -A app` looks up: the only object of this code base that is made at import
    app = declare(Settings.from_env(os.environ))
except ConfigError as error:
    print(f"moodle-risk: {error}", file=sys.stderr)
    raise SystemExit(1) from None
