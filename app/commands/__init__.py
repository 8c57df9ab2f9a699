"""The commands of `faust -A app` besides Faust's own: registered by name, imported when they are run.

A worker therefore loads none of them, and an installation without the extras still lists them.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click
from faust.cli.base import cli

#: command → the module with its class, and its line in `faust -A app --help`
COMMANDS = {
    "worker": ("app.commands.worker", "Run the pipeline."),
    "settings": ("app.commands.settings", "List the environment variables that configure the app."),
    "grow": ("app.commands.grow", "Divide the students among more partitions, while no worker runs."),
    "forget": ("app.commands.forget", "Forget students: delete all that is known of them, while workers run."),
    "page": ("page.commands.page", "Serve the advisers' page."),
    "page-user": ("page.commands.page_user", "Add, remove and list the users of the advisers' page."),
    "parity": ("tools.commands.parity", "Compare KSQL's output with the app's: recorded cases or a live cluster."),
    "replay": ("tools.commands.replay", "Write a log into the source topic as Debezium would."),
    "train": ("tools.commands.train", "Train a risk model, on the shipped students or on your own."),
    "evaluate": ("tools.commands.evaluate", "Evaluate a risk model against what became of the students."),
    "demo": ("tools.commands.demo", "Show the pipeline at work on real students, with a Kafka of its own."),
    "smoke": ("tools.commands.smoke", "Run the whole pipeline once on a Kafka of its own and check every row."),
    "chaos": ("tools.commands.chaos", "Kill, wipe and suspend workers and servers, and check every row."),
    "situations": (
        "tools.commands.situations",
        "Run workers in random situations of real sites, none ends in silence.",
    ),
}
#: folder of a command → the extras that it needs
EXTRAS = {"page": "page", "tools": "tools,stack"}


class LazyCommand(click.Command):
    """A command that is imported when it is run or its help is requested."""

    def __init__(self, name: str, module: str, short_help: str) -> None:
        super().__init__(name, short_help=short_help)
        self._module = module

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Import the command, and let it parse its arguments."""
        return self._load().make_context(info_name, args, parent, **extra)

    def _load(self) -> click.Command:
        """Import the module of the command. Exits with one line if its requirements are not installed."""
        assert self.name is not None
        try:
            importlib.import_module(self._module)  # defining the class registers it with Faust's `cli`
        except ModuleNotFoundError as error:
            extras = EXTRAS.get(self._module.partition(".")[0], "tools,stack")
            print(
                f"moodle-risk: `{self.name}` needs what a worker does not: "
                f"pip install 'moodle-risk[{extras}]' (there is no module {error.name})",
                file=sys.stderr,
            )
            raise SystemExit(1) from None
        return cli.commands[self.name]


def register() -> None:
    """Add the commands to `faust -A app`."""
    importlib.import_module("faust.cli.worker")  # registers Faust's command, which ours then replaces
    for name, (module, short_help) in COMMANDS.items():
        cli.add_command(LazyCommand(name, module, short_help))
