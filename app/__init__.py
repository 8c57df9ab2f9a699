"""moodle-risk: `faust -A app worker` runs the app that app/topology.py declares."""

from __future__ import annotations

import os

from app import commands
from app.errors import ConfigError
from app.ops.logs import say
from app.settings import Settings
from app.topology import declare

commands.register()

try:
    #: the app that `faust -A app` looks up; the only such object that is created at import
    app = declare(Settings.from_env(os.environ))
except ConfigError as error:
    say(Settings.for_refusal(os.environ), str(error))
    raise SystemExit(1) from None
