"""`python -m bench.rounds`: what the agents alone cost a round of few events, without Kafka and RocksDB.

The pipeline over a log and a state in memory, with RISK_MODEL=v1. Rounds follow each other at once, or after a pause as
in a worker that waits for events: the processor's caches have other contents then. Prints one line of JSON: the CPU of
a round [ms], the best of some repetitions, by number of events and pause.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from itertools import islice, product

from app.model_file import load_model
from app.settings import Settings
from bench.environment import at_least
from bench.load import live_rows
from codec.avro_schema import check
from codec.moodle_log import LogDecoder
from tools.replay import debezium
from tools.test_driver import KnownSchemas, TopologyTestDriver

_SCHEMA_ID = 1
_STUDENTS, _RATE, _START_MS = 5_000, 100.0, 1_700_000_000_000
#: numbers of events in a round, and pauses before each [s]
_EVENTS, _PAUSES_S = (1, 10, 100), (0.0, 0.1)


async def measure(rounds: int, events: int, pause_s: float) -> float:
    """Return the CPU of a round of `events` events [ms], each after a pause; as many unmeasured rounds come before."""
    settings = Settings(model="v1")
    schema = json.loads(debezium.schemas(settings.source_topic).value)
    decoder = LogDecoder(KnownSchemas({_SCHEMA_ID: schema}), check(schema, settings.source_topic))
    driver = TopologyTestDriver(settings, decoder, load_model("v1"))
    values = debezium.values(live_rows(2 * rounds * events, _RATE, _STUDENTS, _START_MS), _SCHEMA_ID)
    parts = iter([values[i : i + events] for i in range(0, len(values), events)])
    used = 0.0
    async with driver:
        for part in islice(parts, rounds):
            await driver.feed(settings.source_topic, [None] * events, part)
        gc.collect()
        for part in parts:
            await asyncio.sleep(pause_s)
            began = time.process_time()
            await driver.feed(settings.source_topic, [None] * events, part)
            used += time.process_time() - began
    if len(driver.topics[settings.topic_names.prediction]) < 2 * rounds:
        raise RuntimeError("a round has written no prediction")
    return 1e3 * used / rounds


def main() -> int:
    """Measure, print one line of JSON, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.rounds", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rounds", type=at_least(1), default=100, help="rounds measured in each repetition")
    parser.add_argument("--repetitions", type=at_least(1), default=3, help="repetitions, the best of which counts")
    arguments = parser.parse_args()
    line = [
        {
            "events": events,
            "pause_s": pause_s,
            "cpu_ms": round(
                min(asyncio.run(measure(arguments.rounds, events, pause_s)) for _ in range(arguments.repetitions)), 2
            ),
        }
        for events, pause_s in product(_EVENTS, _PAUSES_S)
    ]
    print(json.dumps(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())
