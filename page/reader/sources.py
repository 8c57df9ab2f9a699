"""The topics that the page reads, and what their records become."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass
from typing import Any

from app.settings import Settings
from page.reader import parse
from page.reader.parse import Record, Unreadable
from page.store.rows import Batch, CaseRecord, UnreadableRow


@dataclass(frozen=True, slots=True)
class Sources:
    """The names of the topics; each has one partition."""

    risk: str
    alerts: str
    sessions: str
    dead_letters: str
    #: empty: none is read
    cases: str = ""

    @classmethod
    def of(cls, settings: Settings, cases: str = "") -> Sources:
        """Name them; cases: the topic of cases."""
        names = settings.topic_names
        return cls(names.risk, names.risk_alerts, names.sessions, names.dead_letters, cases)

    @property
    def all(self) -> tuple[str, ...]:
        """The names of all of them."""
        return tuple(name for name in astuple(self) if name)

    def add(self, batch: Batch, topic: str, records: Iterable[Record]) -> None:
        """Add the records of a topic to a batch. Those that are none of its rows are added as unreadable."""
        if topic == self.cases:
            batch.cases += [CaseRecord(r.offset, r.timestamp, r.key, r.value) for r in records]
            return
        readers: Mapping[str, tuple[Callable[[Record], Any], list[Any]]] = {
            self.risk: (parse.risk, batch.risks),
            self.alerts: (parse.alert, batch.alerts),
            self.sessions: (parse.session, batch.sessions),
            self.dead_letters: (parse.dead_letter, batch.dead_letters),
        }
        read, rows = readers[topic]
        for record in records:
            try:
                row = read(record)
            except Unreadable as error:
                batch.unreadable.append(UnreadableRow(topic, 0, record.offset, str(error)))
            else:
                if row is not None:
                    rows.append(row)


def origin(settings: Settings) -> str:
    """What a database is derived from; with another origin it is made anew."""
    names = settings.topic_names
    return json.dumps([astuple(Sources.of(settings, names.cases)), settings.timezone, settings.page_history_days])
