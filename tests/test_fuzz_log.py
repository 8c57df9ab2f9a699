"""Damaged values of Moodle's log: each is read as fastavro reads it, or becomes a dead letter."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from codec.dead_letters import DeadLetter
from models.chunk import Headers
from tests.support.avro_reference import Reference, check_decoded, visits_of
from tests.support.damage import FULL_EFFORT, MUTANTS, Damage
from tests.support.golden_cases import chunk
from tests.support.kafka_batches import varint
from tests.support.log_samples import SAMPLES, SETTINGS, from_debezium
from tests.support.recount import check_outputs

#: key, value, headers
Input = tuple[bytes | None, bytes, Headers]
#: logs made of each sample: a damaged time may lie in any year, and makes all records after it late
LOGS = 15


@pytest.fixture(autouse=True)
def _no_log_lines(caplog: pytest.LogCaptureFixture) -> None:
    """Silence the log line of each dead letter; test_pipeline.py checks those."""
    caplog.set_level(logging.CRITICAL, "agents")


def test_all_fuzz_tests_together_make_a_hundred_thousand_inputs() -> None:
    assert sum(FULL_EFFORT.values()) >= 100_000


@pytest.mark.parametrize("name", SAMPLES)
async def test_damaged_values_are_read_as_fastavro_reads_them_or_rejected(name: str) -> None:
    """A value counts with the userid and time that fastavro reads, or it is a dead letter; nothing is lost."""
    sample = SAMPLES[name]()
    reference, damage = Reference(sample), Damage(list(SAMPLES).index(name))
    total = MUTANTS["log values"] // len(SAMPLES)
    reasons: Counter[str] = Counter()
    applied = 0
    for i in range(LOGS):
        target = total * (i + 1) // LOGS
        inputs: list[Input] = []
        settings = replace(SETTINGS, time_unit="ms", emit="changes" if i % 2 else "batch")
        decoder = sample.decoder(settings)
        async with sample.driver(settings) as driver:
            visits: list[tuple[int, tuple[int | None, int]]] = []
            while damage.made < target:
                # small and large fetches take different code paths
                values = []
                for _ in range(1 + damage.below(12 if damage.below(4) == 0 else 150)):
                    a, b = (sample.values[damage.below(len(sample.values))] for _ in range(2))
                    values += [a, damage.mutate(a, b) if damage.made < target else b]
                keys = [damage.random_bytes(damage.below(9)) if damage.below(3) else None for _ in values]
                headers: list[Headers] = [
                    [("h", damage.random_bytes(3))] if damage.below(5) == 0 else [] for _ in values
                ]
                decoded = await decoder.decode(chunk(list(values)))
                reasons += check_decoded(reference, values, decoded)
                visits += visits_of(decoded, len(inputs))
                inputs += zip(keys, values, headers, strict=True)
                await driver.feed(driver.names.source, keys, values, headers if any(headers) else None)
        counted = {offset for offset, _ in visits}
        check_dead_letters(driver.dead_letters, inputs, [n for n in range(len(inputs)) if n not in counted])
        counts = driver.metrics
        assert counts["events"] == len(inputs)
        assert counts["visits"] + counts["rejected"] == len(inputs)
        assert counts["detached_slices"] == counts["repeated"] == 0
        rules = check_outputs(driver, [visit for _, visit in visits])
        applied += len(visits) - rules.late
    assert damage.made == total
    assert reasons["read"] > total  # all undamaged values, and some damaged ones
    assert applied > total // 10
    assert {"bad-magic", "unknown-schema", "truncated"} < set(reasons)
    assert reasons["laxer"] < total // 5


def check_dead_letters(dead_letters: Sequence[DeadLetter], inputs: Sequence[Input], rejected: Sequence[int]) -> None:
    """Check that exactly the inputs at `rejected` are dead letters, complete, with origin and reason."""
    assert [dead_letter.offset for dead_letter in dead_letters] == list(rejected)
    for dead_letter in dead_letters:
        key, value, headers = inputs[dead_letter.offset]
        at, letter_key, letter_value, letter_headers = dead_letter.row
        assert (at, letter_key, letter_value or b"") == (None, key, value)
        assert letter_headers[5:] == list(headers)
        origin = dict(letter_headers[:5])
        assert origin["dead-letter.topic"] == SETTINGS.source_topic.encode()
        assert (origin["dead-letter.partition"], origin["dead-letter.offset"]) == (b"0", b"%d" % dead_letter.offset)
        assert origin["dead-letter.reason"] == dead_letter.reason.encode() != b""
        assert origin["dead-letter.detail"] == dead_letter.detail.encode() != b""
        assert f"partition 0 offset {dead_letter.offset}: {dead_letter.reason}" in str(dead_letter)


async def test_changes_to_fields_that_are_not_used_change_nothing() -> None:
    """Any text (also not UTF-8), any id in any encoding, and trailing bytes: the visits stay the same."""
    sample = from_debezium("default")
    (number,) = sample.schemas
    damage = Damage(99)
    visits: list[tuple[int | None, int]] = []
    total = MUTANTS["log values, unread fields"]
    async with sample.driver() as driver:
        while damage.made < total:
            values = []
            for _ in range(min(500, total - damage.made)):
                student, at = damage.below(40), 1_561_975_200_000 + 3 * len(visits) * 1_000 + damage.below(10**6)
                text = damage.random_bytes(damage.below(90))
                key = varint(damage.below(2**32) << damage.below(31))
                if damage.below(2):  # not the shortest encoding, up to the longest that a long may have
                    key = varint(damage.below(64))
                    key = bytes([key[0] | 0x80]) + b"\x80" * damage.below(9) + b"\0"
                value = b"\0" + number.to_bytes(4, "big") + key + varint(len(text)) + text
                value += varint(student) + varint(at) + damage.random_bytes(damage.below(6))
                values.append(value)
                visits.append((student, at))
                damage.made += 1
            await driver.feed(driver.names.source, [None] * len(values), values)
    assert not driver.dead_letters
    rules = check_outputs(driver, visits)
    assert rules.late == 0
    assert sum(n for n, *_ in rules.totals.values()) == len(visits)
