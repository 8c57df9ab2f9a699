"""Count the requests that a process sends to Kafka, by API.

`python -m bench.request_counts MODULE ARGUMENTS` runs a module with its requests counted. The counts are in a file that
another process reads at any time; writing one costs about 100 ns.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka.conn import AIOKafkaConnection

from models.rules import Int64s

#: environment variable with the path of the file; without it nothing is counted
VARIABLE = "BENCH_REQUESTS"
#: names, in short, of the APIs that a worker uses all the time, by Kafka's number
NAMES: Mapping[int, str] = {
    0: "Produce",
    1: "Fetch",
    2: "ListOffsets",
    3: "Metadata",
    8: "OffsetCommit",
    9: "OffsetFetch",
    12: "Heartbeat",
    24: "AddPartitions",
    25: "AddOffsets",
    26: "EndTxn",
    28: "TxnOffsets",
}
#: size of the file: one more than the greatest number that is counted
_APIS = 128


def create(file: Path) -> None:
    """Write a file without requests."""
    np.zeros(_APIS, np.int64).tofile(file)


def read(file: Path) -> Int64s:
    """Return the number of requests so far [128], by Kafka's number of the API."""
    return np.fromfile(file, np.int64)


def install() -> None:
    """Count this process's requests from now on if the environment says where."""
    if VARIABLE not in os.environ:
        return
    counts = np.memmap(os.environ[VARIABLE], np.int64, "r+", shape=(_APIS,))
    send = AIOKafkaConnection.send

    def counting(connection: AIOKafkaConnection, request: Any, expect_response: bool = True) -> Any:
        counts[request.API_KEY] += 1
        return send(connection, request, expect_response)

    AIOKafkaConnection.send = counting


if __name__ == "__main__":
    install()
    del sys.argv[0]
    sys.path.insert(0, os.getcwd())
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
