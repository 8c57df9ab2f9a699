"""A report as lines for a person."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tools.parity.live import formatting as keys
from tools.parity.live.content import Key
from tools.parity.live.lag import Lag
from tools.parity.live.report import Report, Row, Shown, Topic, counted
from tools.parity.live.sequences import Compared

_COLUMNS = ("", "equal", "differing", "only here", "only there", "records here", "records there")
#: how many stray keys are named
_STRAYS = 3


def lines(report: Report) -> list[str]:
    """The whole report."""
    found = [
        f"here:  the app, topics with prefix {report.here!r}",
        f"there: topics with prefix {report.there!r}" + (" (KSQL's own names)" if not report.there else ""),
        "",
        *_tables(report.topics),
        "",
    ]
    for topic in report.topics:
        found += _topic(topic)
    found += ["sequences of changes", *_sequences(report), ""]
    found += ["lag", *_lag("here", report.lag_here), *_lag("there", report.lag_there), ""]
    if report.hints:
        found += ["what to know", *(f"  {hint}" for hint in report.hints), ""]
    return [*found, verdict(report)]


def verdict(report: Report) -> str:
    """The last line."""
    lags = report.lag_here.behind, report.lag_there.behind
    if report.equal:
        if lags == (0, 0):
            return "equal: both sides have processed everything"
        return "equal so far: " + (
            "a side lags behind" if any(lags) else "whether both sides have processed everything is unknown"
        )
    wrong = [topic for topic in report.topics if topic.wrong]
    parts = []
    for noun, verbs, count in (
        ("row", ("differs", "differ"), sum(topic.rows_wrong for topic in wrong)),
        ("sequence", ("differs", "differ"), sum(topic.sequence_wrong for topic in wrong)),
        ("topic", ("is missing", "are missing"), sum(bool(topic.missing) for topic in wrong)),
        ("key", ("is in several partitions", "are in several partitions"), sum(len(topic.strays) for topic in wrong)),
    ):
        if count:
            parts.append(f"{counted(count, noun)} {verbs[count != 1]}")
    return "different: " + ", ".join(parts) + f" ({', '.join(topic.name for topic in wrong)})"


def _tables(topics: Sequence[Topic]) -> list[str]:
    rows = [_COLUMNS]
    for t in topics:
        counts = (t.table.equal, len(t.table.differing), len(t.table.only_here), len(t.table.only_there))
        absent = {"here": (0,), "there": (1,), "both": (0, 1)}.get(t.missing, ())
        records = ["missing" if i in absent else f"{n:,}" for i, n in enumerate((t.records_here, t.records_there))]
        rows.append((t.name, *(("-",) * 4 if t.missing else (f"{n:,}" for n in counts)), *records))
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    notes = ["", *(f"  does not count: {t.pardon}" if t.pardon else "" for t in topics)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        + note
        for row, note in zip(rows, notes, strict=True)
    ]


def _topic(topic: Topic) -> list[str]:
    """Its examples, and what retention or partitions have to do with it."""
    found: list[str] = []
    show = _naming(topic.name)
    kinds: tuple[tuple[str, Sequence[Shown], int], ...] = (
        ("differing", topic.differing, len(topic.table.differing)),
        ("only here", topic.only_here, len(topic.table.only_here)),
        ("only there", topic.only_there, len(topic.table.only_there)),
    )
    for kind, some, count in kinds:
        for one in some:
            found.append(f"  {kind}: {show(one.key)}")
            found += [f"    {who:<5}  {_row(row)}" for who, row in (("here", one.here), ("there", one.there)) if row]
        if count > len(some):
            found.append(f"  {kind}: {count - len(some):,} more (--show)")
    for side, other, gone in (("here", "there", topic.table.gone_there), ("there", "here", topic.table.gone_here)):
        if gone:
            found.append(
                f"  {counted(gone, 'row')} only {side}, older than the topic's retention.ms {other}: not counted"
            )
    if topic.strays:
        names = "; ".join(show(key) for key in topic.strays[:_STRAYS])
        found.append(f"  in several partitions, so in no order: {counted(len(topic.strays), 'key')}, e.g. {names}")
    return [topic.name, *found, ""] if found else []


def _sequences(report: Report) -> list[str]:
    found = []
    width = max(len(topic.name) for topic in report.topics)
    for topic in report.topics:
        if topic.sequence is None:
            continue
        pardon = f"; does not count: {topic.sequence_pardon}" if topic.sequence_pardon else ""
        found.append(f"  {topic.name:<{width}}  {_relation(topic, topic.sequence)}{pardon}")
        if topic.sequence_pardon:
            continue
        show, marked = _naming(topic.name), set()
        for step in topic.steps:
            first = step.who != "both" and step.who not in marked
            marked.add(step.who)
            headers = f" {len(step.headers)} headers" if step.headers else ""
            found.append(f"  {'>' if first else ' '} {step.who:<5}  {_row(step.row)}{headers}  [{show(step.key)}]")
        first_there = topic.sequence.first
        if first_there is not None:
            found += [
                f"  > {who:<5}  nothing: it ends here"
                for who, places in (("here", first_there.here), ("there", first_there.there))
                if not places
            ]
    if report.no_sequences:
        found.append(f"  tables only ({report.no_sequences})")
    return found


def _relation(topic: Topic, found: Compared) -> str:
    each = "in the same order" if found.whole else "in the same order for each key"
    if found.relation == "same":
        return f"{counted(topic.records_here, 'record')}, the same {each}"
    if found.relation == "behind":
        if found.side == "both":
            return "the same as far as they go; each side has keys that are further"
        ahead = abs(topic.records_here - topic.records_there)
        return f"the same as far as it goes {found.side}, {counted(ahead, 'record')} behind"
    if found.relation == "thin":
        short, long = topic.records_here, topic.records_there
        if found.side == "there":
            short, long = long, short
        return f"{found.side} {short:,} of the other's {long:,} records, in order for each key"
    row = found.first.row if found.first is not None else 0
    if found.relation == "order":
        return f"the same for each key, but in another order from record {row:,} on"
    what = "timestamp or headers differ" if found.first is not None and found.first.only_stamp else "differ"
    return f"{what} from record {row:,} {'on' if found.whole else 'of a key on'}"


def _lag(who: str, lag: Lag) -> list[str]:
    if lag.behind is None:
        return [f"  {who:<5}  unknown: {lag.unknown}"]
    found = [f"  {who:<5}  {counted(lag.behind, 'record')} behind ({', '.join(lag.groups)})"]
    return found + [f"           {count:,} in {topic}" for topic, count in lag.topics.items() if count]


def _naming(topic: str) -> Callable[[Key], str]:
    return keys.session if topic.endswith("SESSIONS_PER_15MINS") else keys.plain


def _row(row: Row) -> str:
    value, at = row
    return f"{keys.time(at)}  {'tombstone' if value is None else keys.text(value)}"
