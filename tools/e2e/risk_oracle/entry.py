"""A student in a course while the rows of the topics are followed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tools.e2e.read_topic import Record
from tools.e2e.risk_oracle.log import Key, Spell

#: before every day
LONG_AGO = -(10**9)


@dataclass(slots=True)
class Entry:
    """A student in a course, and how far their rows have been followed. Mutable."""

    key: Key
    rows: Sequence[Record]
    alert_rows: Sequence[Record]
    next_row: int = 0
    next_alert: int = 0
    #: the spell, None before the first and after one is forgotten; the index of the next one
    spell: Spell | None = None
    next_spell: int = 0
    #: number of the spell's marks that have been scored, and the newest day among them
    scored: int = 0
    newest: int = LONG_AGO
    #: risk and band as of the latest tick that had news
    risk: int | None = None
    band: str = ""
    above: int = 0
    below: int = 0
    #: the day the alert was opened that is open, and the day the latest was opened
    since: int | None = None
    opened: int = LONG_AGO
    #: day of a tick → the open alert after it, where that changed
    turns: dict[int, int | None] = field(default_factory=dict)

    def begin(self, spell: Spell | None) -> None:
        """Begin a spell, or none: nothing of the former one is kept."""
        self.spell, self.scored, self.newest = spell, 0, LONG_AGO
        self.risk, self.band, self.above, self.below = None, "", 0, 0
        self.since, self.opened, self.turns = None, LONG_AGO, {}

    @property
    def peeked(self) -> Record | None:
        """The next row of the topic, if any."""
        return self.rows[self.next_row] if self.next_row < len(self.rows) else None

    def recent_alerts(self, day: int) -> set[int | None]:
        """Return the alerts (as `since`) that were open, or that none was, after a tick within six days of `day`."""
        before = [tick for tick in self.turns if tick < day - 6]
        first = self.turns[max(before)] if before else None
        return {first, self.since, *(since for tick, since in self.turns.items() if tick >= day - 6)}
