"""Render a report as lines of text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tools.parity.live.content import Key
from tools.parity.live.formatting import format_bytes, format_session_key, format_student_key, format_time
from tools.parity.live.lag import Lag
from tools.parity.live.report import KeyRows, Report, Row, TopicComparison, count_noun
from tools.parity.live.sequences import SequenceComparison

_COLUMNS = ("", "equal", "differing", "only here", "only there", "records here", "records there")
#: number of keys named as examples of those in several partitions
_EXAMPLES = 3


def render(report: Report) -> list[str]:
    """Return the whole report; its last line is the summary."""
    lines = [
        f"here:  the app, topics with prefix {report.here!r}",
        f"there: topics with prefix {report.there!r}" + (" (KSQL's own names)" if not report.there else ""),
        "",
        *_tables(report.topics),
        "",
    ]
    for topic in report.topics:
        lines += _topic(topic)
    lines += ["sequences of changes", *_sequences(report), ""]
    lines += ["lag", *_lag("here", report.lag_here), *_lag("there", report.lag_there), ""]
    if report.hints:
        lines += ["hints", *(f"  {hint}" for hint in report.hints), ""]
    return [*lines, _summary(report)]


def _summary(report: Report) -> str:
    if report.equal:
        lags = report.lag_here.behind, report.lag_there.behind
        if lags == (0, 0):
            return "equal: both sides have processed everything"
        return "equal so far: " + (
            "a side lags behind" if any(lags) else "it is unknown whether both sides have processed everything"
        )
    topics = [topic for topic in report.topics if topic.differs]
    parts = []
    for noun, verbs, count in (
        ("row", ("differs", "differ"), sum(topic.row_differences for topic in topics)),
        ("sequence", ("differs", "differ"), sum(topic.sequence_differs for topic in topics)),
        ("topic", ("is missing", "are missing"), sum(bool(topic.missing_on) for topic in topics)),
        (
            "key",
            ("is in several partitions", "are in several partitions"),
            sum(len(topic.in_several_partitions) for topic in topics),
        ),
    ):
        if count:
            parts.append(f"{count_noun(count, noun)} {verbs[count != 1]}")
    return "different: " + ", ".join(parts) + f" ({', '.join(topic.name for topic in topics)})"


def _tables(topics: Sequence[TopicComparison]) -> list[str]:
    rows = [_COLUMNS]
    for t in topics:
        counts = (t.table.equal, len(t.table.differing), len(t.table.only_here), len(t.table.only_there))
        records = [
            "missing" if t.missing_on in (side, "both") else f"{n:,}"
            for side, n in (("here", t.records_here), ("there", t.records_there))
        ]
        rows.append((t.name, *(("-",) * 4 if t.missing_on else (f"{n:,}" for n in counts)), *records))
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    notes = ["", *(f"  does not count: {t.ignored_because}" if t.ignored_because else "" for t in topics)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        + note
        for row, note in zip(rows, notes, strict=True)
    ]


def _topic(topic: TopicComparison) -> list[str]:
    """Return the example rows, and notes on rows expired by retention and keys in several partitions."""
    lines: list[str] = []
    format_key = _key_format(topic.name)
    kinds: tuple[tuple[str, Sequence[KeyRows], int], ...] = (
        ("differing", topic.differing, len(topic.table.differing)),
        ("only here", topic.only_here, len(topic.table.only_here)),
        ("only there", topic.only_there, len(topic.table.only_there)),
    )
    for kind, examples, count in kinds:
        for example in examples:
            lines.append(f"  {kind}: {format_key(example.key)}")
            sides = (("here", example.here), ("there", example.there))
            lines += [f"    {side:<5}  {_row(row)}" for side, row in sides if row]
        if count > len(examples):
            lines.append(f"  {kind}: {count - len(examples):,} more (--show)")
    expired = (("here", "there", topic.table.expired_there), ("there", "here", topic.table.expired_here))
    for side, other, count in expired:
        if count:
            lines.append(
                f"  {count_noun(count, 'row')} only {side}, older than the topic's retention.ms {other}: not counted"
            )
    if keys := topic.in_several_partitions:
        names = "; ".join(map(format_key, keys[:_EXAMPLES]))
        lines.append(
            f"  in several partitions, so their order is undefined: {count_noun(len(keys), 'key')}, e.g. {names}"
        )
    return [topic.name, *lines, ""] if lines else []


def _sequences(report: Report) -> list[str]:
    lines = []
    width = max(len(topic.name) for topic in report.topics)
    for topic in report.topics:
        if topic.sequence is None:
            continue
        ignored = f"; does not count: {topic.sequence_ignored_because}" if topic.sequence_ignored_because else ""
        lines.append(f"  {topic.name:<{width}}  {_relation(topic, topic.sequence)}{ignored}")
        if topic.sequence_ignored_because:
            continue
        format_key = _key_format(topic.name)
        marked = {"both"}  # the first row of each side is the one that differs
        for row in topic.sequence_rows:
            mark = " " if row.side in marked else ">"
            marked.add(row.side)
            headers = f" {len(row.headers)} headers" if row.headers else ""
            lines.append(f"  {mark} {row.side:<5}  {_row(row.row)}{headers}  [{format_key(row.key)}]")
        if first := topic.sequence.first:
            sides = (("here", first.here), ("there", first.there))
            lines += [f"  > {side:<5}  end of the sequence" for side, locations in sides if not locations]
    if report.no_sequences_because:
        lines.append(f"  tables only ({report.no_sequences_because})")
    return lines


def _relation(topic: TopicComparison, sequence: SequenceComparison) -> str:
    if sequence.relation == "same":
        order = "in the same order" if sequence.total_order else "in the same order for each key"
        return f"{count_noun(topic.records_here, 'record')}, the same {order}"
    if sequence.relation == "behind":
        if sequence.side == "both":
            return "the same as far as they go; each side is ahead for some keys"
        behind = abs(topic.records_here - topic.records_there)
        return f"the same as far as it goes {sequence.side}, {count_noun(behind, 'record')} behind"
    if sequence.relation == "subset":
        short, long = topic.records_here, topic.records_there
        if sequence.side == "there":
            short, long = long, short
        return f"{sequence.side} {short:,} of the other side's {long:,} records, in order for each key"
    row = sequence.first.row if sequence.first is not None else 0
    if sequence.relation == "order":
        return f"the same for each key, but in another order from record {row:,} on"
    what = "timestamp or headers differ" if sequence.first is not None and sequence.first.only_stamp else "differ"
    return f"{what} from record {row:,} {'on' if sequence.total_order else 'of a key on'}"


def _lag(side: str, lag: Lag) -> list[str]:
    if lag.behind is None:
        return [f"  {side:<5}  unknown: {lag.unknown_because}"]
    lines = [f"  {side:<5}  {count_noun(lag.behind, 'record')} behind ({', '.join(lag.groups)})"]
    return lines + [f"           {count:,} in {topic}" for topic, count in lag.topics.items() if count]


def _key_format(topic: str) -> Callable[[Key], str]:
    return format_session_key if topic.endswith("SESSIONS_PER_15MINS") else format_student_key


def _row(row: Row) -> str:
    value, timestamp = row
    return f"{format_time(timestamp)}  {'tombstone' if value is None else format_bytes(value)}"
