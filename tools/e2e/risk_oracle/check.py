"""Compare MOODLE_RISK and MOODLE_RISK_ALERTS with what the log must produce, day by day and student by student.

Which day bits are set, what a tick finds, and all alerts follow from the log alone. Only when an entry was scored
between two ticks depends on how its rows were cut into batches: so the rows that events caused are followed as they
are in the topic, and each must be one that these rows of the log can cause. What the next tick writes follows from
them, since it is compared with what was published last.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tools.e2e.read_topic import Record
from tools.e2e.risk_oracle.entry import LONG_AGO, Entry
from tools.e2e.risk_oracle.log import History, Key, LogRow, Mark, Spell
from tools.e2e.risk_oracle.rules import Rules
from tools.e2e.risk_oracle.standing import NO_ASSESSMENT, Assessment, CohortTable, Figures, Peers
from tools.e2e.risk_oracle.states import AHEAD, hash_of, is_cut_of, shown_marks

#: number of differences that are told
_TOLD = 8


class RiskCheck:
    """Follows the rows of both topics through the log. Mutable: call `run` once."""

    def __init__(
        self,
        rules: Rules,
        log: Sequence[LogRow],
        history: History,
        risk: Sequence[Record],
        alerts: Sequence[Record],
        *,
        in_order: bool,
    ) -> None:
        """risk, alerts: the records of the topics. in_order: whether the log is in the order in which each student's
        rows were applied, among each other and with the ticks; otherwise only rows of the same day may be out of it."""
        self._rules, self._log, self._history, self._in_order = rules, log, history, in_order
        by_key, alerts_by_key = _by_key(risk), _by_key(alerts)
        self._entries = {
            key: Entry(key, by_key.pop(rules.key_of(key), ()), alerts_by_key.pop(rules.key_of(key), ()))
            for key in history.spells
        }
        self._differences: list[str] = []
        self._strangers = Counter(by_key.keys()) + Counter(alerts_by_key.keys())
        self._tables: dict[int, CohortTable] = {}
        self.alerts = 0
        self.ticks = 0

    def run(self) -> list[str]:
        """Return one line for each of the first differences."""
        if self._strangers:
            self._tell(f"rows of {len(self._strangers)} keys that have no visit, e.g. {min(self._strangers)!r}")
        for day in sorted(self._history.cuts):
            self._tick(day)
            self._tables = {d: table for d, table in self._tables.items() if d > day - 16}
            self.ticks += 1
        for entry in self._entries.values():
            self._events(entry, None)
            for rest, name in (
                (entry.rows[entry.next_row :], "risk"),
                (entry.alert_rows[entry.next_alert :], "alerts"),
            ):
                if rest:
                    self._tell(f"{name}: {entry.key}: {len(rest)} rows too many, the first: {rest[0].value!r}")
        return self._differences

    def _tell(self, line: str) -> None:
        if len(self._differences) < _TOLD:
            self._differences.append(line)

    # -- ticks

    def _tick(self, day: int) -> None:
        rule = self._rules.standing.model["cohort"]
        table = CohortTable(rule["weeks"], rule["minimum"])
        found: list[tuple[Entry, Figures, int]] = []
        for entry in self._entries.values():
            self._events(entry, day)
            if entry.spell is None:
                continue
            if entry.spell.newest < day - rule["forget_days"]:
                self._forget(entry, day)
                continue
            figures = self._rules.standing.figures(entry.spell.visits, entry.spell.submissions, day)
            if figures is not None:
                first = entry.spell.first
                table.add(entry.key, first, figures)
                found.append((entry, figures, first))
        self._tables[day] = table
        admitted = self._admitted([entry for entry, _, _ in found], day)
        for entry, figures, first in found:
            assessment = self._rules.standing.assess(figures, table.peers(entry.key[1], first), first, day)
            self._score(entry, assessment, day, settled=day - first, admitted=admitted)

    def _admitted(self, entries: Sequence[Entry], day: int) -> set[Key] | None:
        """Return those for whom the week's budget has room, the highest risk as of a tick first; None: no budget."""
        budget, rule = self._rules.budget, self._rules.standing.model["alerts"]
        if not budget:
            return None
        room: Counter[int] = Counter()
        for entry in entries:
            if entry.opened > day - 7:
                room[entry.key[1]] -= 1
        line = [entry for entry in entries if entry.since is None and entry.above >= rule["ticks"] - 1]
        ranked = sorted(line, key=lambda entry: (-(entry.risk or 0), -hash_of(entry.key[0])))
        admitted: set[Key] = set()
        for entry in ranked:
            if room[entry.key[1]] + budget > 0:
                admitted.add(entry.key)
                room[entry.key[1]] -= 1
        return admitted

    def _score(
        self, entry: Entry, assessment: Assessment, day: int, *, settled: int, admitted: set[Key] | None
    ) -> None:
        standing = self._rules.standing
        rule, risk = standing.model["alerts"], assessment.risk
        is_settled = settled >= standing.model["bands"]["high_after_days"]
        entry.above = entry.above + 1 if risk is not None and risk / 10_000 >= rule["on"] and is_settled else 0
        entry.below = entry.below + 1 if risk is not None and risk / 10_000 < rule["off"] else 0
        gone, turned = assessment.band == "GONE", False
        if entry.since is None:
            if entry.above >= rule["ticks"] and (admitted is None or entry.key in admitted):
                entry.since = entry.opened = day
                turned = True
                self._alert(entry, "opened", assessment, day, "risk")
        elif gone or entry.below >= rule["ticks"]:
            entry.since, turned = None, True
            self._alert(entry, "closed", assessment, day, "gone" if gone else "risk")
        if turned:
            entry.turns[day] = entry.since
        moved = risk is not None and entry.risk is not None
        moved = moved and abs((risk or 0) - (entry.risk or 0)) >= round(10_000 * standing.model["publish_change"])
        news = assessment.band != entry.band or moved
        if news:
            entry.risk, entry.band = risk, assessment.band
        self._publish(entry, assessment, day, news=news, turned=turned)

    def _publish(self, entry: Entry, assessment: Assessment, day: int, *, news: bool, turned: bool) -> None:
        """Follow what the tick of `day` writes of an entry: its own row, or that of a later day again."""
        assert entry.spell is not None
        at, name = self._rules.calendar.tick_at(day), f"tick of {self._rules.calendar.text(day)}"
        due = news or turned or day in entry.spell.visits
        row = self._rules.row(entry.key, entry.since, assessment, day, "tick") if due else None
        if self._in_order:
            if entry.newest <= day:
                if due:
                    self._expect(entry, row, at, name)
            elif turned or min(self._rules.calendar.table_day(entry.newest), day) == day:
                _, value = self._event(entry, entry.spell.marks[: entry.scored], day, entry.since)
                self._expect(entry, value, self._rules.calendar.start(entry.newest), f"{name}, later day")
            return
        record = entry.peeked
        is_there = record is not None and record.at == at and b'"TRIGGER":"tick"' in (record.value or b"")
        # with a visit on a later day, which may have come before the tick, there may be none
        may_lack = any(day + n in entry.spell.visits for n in range(1, AHEAD + 1))
        if is_there and not due:
            self._tell(f"risk: {entry.key}: {name}: not expected: {record}")
            entry.next_row += 1
        elif due and (is_there or not may_lack):
            self._expect(entry, row, at, name)

    def _forget(self, entry: Entry, day: int) -> None:
        at, text = self._rules.calendar.tick_at(day), self._rules.calendar.text(day)
        if entry.since is not None:
            self._alert(entry, "closed", NO_ASSESSMENT, day, "forgotten")
        self._expect(entry, None, at, f"tombstone of {text}")
        entry.begin(None)

    def _expect(self, entry: Entry, value: bytes | None, at: int, name: str) -> None:
        """Follow the next row, which must be this one."""
        record = entry.peeked
        if record is None or (record.value, record.at) != (value, at):
            found = None if record is None else (record.value, record.at)
            self._tell(f"risk: {entry.key}: {name}: expected {(value, at)}, found {found}")
            if record is None or record.at != at:
                return  # it is missing
        entry.next_row += 1

    def _alert(
        self, entry: Entry, turn: str, assessment: Assessment, day: int, why: str, at: int | None = None
    ) -> None:
        """Follow the next row of the alerts."""
        self.alerts += 1
        value = self._rules.alert_row(entry.key, turn, assessment, day, entry.opened, why)
        at = self._rules.calendar.tick_at(day) if at is None else at
        rows = entry.alert_rows
        record = rows[entry.next_alert] if entry.next_alert < len(rows) else None
        if record is None or (record.value, record.at) != (value, at):
            found = None if record is None else (record.value, record.at)
            self._tell(f"alerts: {entry.key}: expected {(value, at)}, found {found}")
        entry.next_alert += 1

    # -- events

    def _events(self, entry: Entry, day: int | None) -> None:
        """Follow the rows that events caused before the tick of `day`; None: after the last tick."""
        cut = len(self._log) if day is None else self._history.cuts[day]
        follow = self._events_in_order if self._in_order else self._events_of_days
        if entry.spell is not None:
            follow(entry, entry.spell, day, cut)
        spells = self._history.spells[entry.key]
        while entry.next_spell < len(spells) and spells[entry.next_spell].begin < cut:
            spell = spells[entry.next_spell]
            entry.next_spell += 1
            if entry.since is not None:
                mark = spell.marks[0]
                self._alert(entry, "closed", NO_ASSESSMENT, mark.day, "forgotten", self._log[mark.row].at)
            entry.begin(spell)
            follow(entry, spell, day, cut)

    def _events_in_order(self, entry: Entry, spell: Spell, day: int | None, cut: int) -> None:
        """Each row is the state after one of the rows of the log, the last one that after all before the cut."""
        marks = spell.marks
        ends = [
            n
            for n in range(entry.scored + 1, len(marks) + 1)
            if marks[n - 1].row < cut and (n == len(marks) or marks[n].row != marks[n - 1].row)
        ]
        if not ends:
            return
        scored = self._scored_before(day)
        states = [self._event(entry, marks[:n], scored, entry.since) for n in ends]
        wanted = [(value, self._log[marks[n - 1].row].at) for n, (_, value) in zip(ends, states, strict=True)]
        found = [(r.value, r.at) for r in entry.rows[entry.next_row : entry.next_row + len(ends)]]
        used = next((k for k in range(len(found), 0, -1) if is_cut_of(found[:k], wanted)), 0)
        if not used:
            name = " or some of them" if len(wanted) > 1 else ""
            self._tell(f"risk: {entry.key}: events: expected {wanted}{name}, found {found}")
            used = sum(b'"TRIGGER":"event"' in (value or b"") for value, _ in found)
        entry.next_row, entry.scored = entry.next_row + used, ends[-1]
        entry.newest = states[-1][0]

    def _events_of_days(self, entry: Entry, spell: Spell, day: int | None, cut: int) -> None:
        """Each row is a state with the final bits but for some of the newest days.

        Those before the tick of `day` are all rows of days up to it, and those that a row of the tick follows. The last
        row of an entry with a later day than all ticks has all bits.
        """
        calendar = self._rules.calendar
        while (record := entry.peeked) is not None and record.value is not None:
            row = json.loads(record.value)
            as_of = calendar.parse(row["AS_OF"])
            if row["TRIGGER"] != "event" or (day is not None and as_of > day and not self._tick_follows(entry, day)):
                break
            if record.value not in self._possible_events(entry, spell, row):
                self._tell(f"risk: {entry.key}: event of {row['AS_OF']}: impossible: {(record.value, record.at)}")
            if not as_of - AHEAD - 2 <= calendar.day_of(record.at) <= as_of:
                self._tell(f"risk: {entry.key}: event of {row['AS_OF']}: at {record.at}")
            entry.next_row += 1
        last = self._scored_before(None)
        if day is None and max(spell.visits) > last and entry.spell is spell:
            _, value = self._event(entry, spell.marks, last, entry.since)
            found = entry.rows[-1].value if entry.rows else None
            if found != value:
                self._tell(f"risk: {entry.key}: the last row: expected {value!r}, found {found!r}")

    def _possible_events(self, entry: Entry, spell: Spell, row: Mapping[str, Any]) -> Iterator[bytes]:
        """Yield the rows that can have been made from the bits and the alert that `row` shows."""
        calendar = self._rules.calendar
        as_of = calendar.parse(row["AS_OF"])
        since = None if row["SINCE"] is None else calendar.parse(row["SINCE"])
        marks = shown_marks(spell, as_of, int(row["VISIT_DAYS"], 16), int(row["SUBMISSION_DAYS"], 16))
        if marks is not None and since in entry.recent_alerts(as_of):
            table_day = calendar.table_day(as_of)
            for scored in range(table_day, table_day - AHEAD - 1, -1):
                yield self._event(entry, marks, scored, since)[1]

    def _tick_follows(self, entry: Entry, day: int) -> bool:
        """Whether a row of the tick of `day` comes behind the next rows that events caused."""
        at = self._rules.calendar.tick_at(day)
        for record in entry.rows[entry.next_row :]:
            if record.value is None or b'"TRIGGER":"tick"' in record.value:
                return record.at == at
        return False

    def _scored_before(self, day: int | None) -> int:
        """Return the last day that is scored before the tick of `day`; None: behind all ticks."""
        return max(self._history.cuts, default=LONG_AGO) if day is None else day - 1

    def _event(self, entry: Entry, marks: Sequence[Mark], scored: int, since: int | None) -> tuple[int, bytes]:
        """Return the newest day and the row when these bits are set; scored: the last tick before it."""
        visits, submissions = {m.day for m in marks}, {m.day for m in marks if m.submission}
        newest, first = max(visits), min(visits)
        figures = self._rules.standing.figures(visits, submissions, newest)
        assert figures is not None
        table = self._tables.get(min(self._rules.calendar.table_day(newest), scored))
        peers = Peers() if table is None else table.peers(entry.key[1], first)
        assessment = self._rules.standing.assess(figures, peers, first, newest)
        return newest, self._rules.row(entry.key, since, assessment, newest, "event")


def _by_key(records: Sequence[Record]) -> dict[bytes, list[Record]]:
    by_key: defaultdict[bytes, list[Record]] = defaultdict(list)
    for record in records:
        by_key[record.key or b""].append(record)
    return dict(by_key)
