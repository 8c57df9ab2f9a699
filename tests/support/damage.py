"""Damaged copies of real bytes for the fuzz tests: reproducible, from a seed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.support.effort import mutants

#: damaged inputs of each kind at full effort
FULL_EFFORT = {
    "log values": 30_000,
    "log values, unread fields": 6_000,
    "visit batches": 28_000,
    "visit batches among intact ones": 1_005,
    "state records": 10_000,
    "positions": 4_000,
    "predictions": 20_000,
    "keys": 6_000,
}
#: damaged inputs of each kind in this run; every test makes exactly as many
MUTANTS = {kind: mutants(full) for kind, full in FULL_EFFORT.items()}
#: bytes at the limits of Avro's number encoding
_LIMITS = bytes([0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF])


class Damage:
    """Damages bytes in a different way each time. Mutable: counts what it made."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        #: numbers below 2**32, drawn in bulk: single draws cost ten times as much
        self._drawn: Iterator[int] = iter(())
        self.made = 0
        self._mutations = (
            self._flip_bits, self._flip_bits, self._truncate, self._extend, self._insert, self._delete, self._splice,
            self._randomize, self._change_head, self._set_limits, self._repeat,
        )  # fmt: skip

    def below(self, n: int) -> int:
        """A random number from 0 to n - 1."""
        for number in self._drawn:
            return number % n
        self._drawn = iter(self._rng.integers(0, 2**32, 50_000).tolist())
        return self.below(n)

    def mutate(self, raw: bytes, other: bytes = b"") -> bytes:
        """A changed copy of `raw`, possibly spliced with `other`. Never equal to `raw`."""
        while True:
            changed = self._mutations[self.below(len(self._mutations))](raw, other)
            if changed != raw:
                self.made += 1
                return changed

    def random_bytes(self, size: int) -> bytes:
        """`size` random bytes."""
        return bytes(self.below(256) for _ in range(size))

    def _flip_bits(self, raw: bytes, other: bytes) -> bytes:
        octets = bytearray(raw)
        for _ in range(1 + self.below(3) if octets else 0):
            octets[self.below(len(octets))] ^= 1 << self.below(8)
        return bytes(octets)

    def _truncate(self, raw: bytes, other: bytes) -> bytes:
        return raw[: self.below(len(raw) + 1)]

    def _extend(self, raw: bytes, other: bytes) -> bytes:
        return raw + self.random_bytes(1 + self.below(12))

    def _insert(self, raw: bytes, other: bytes) -> bytes:
        at = self.below(len(raw) + 1)
        return raw[:at] + self.random_bytes(1 + self.below(4)) + raw[at:]

    def _delete(self, raw: bytes, other: bytes) -> bytes:
        at = self.below(len(raw) + 1)
        return raw[:at] + raw[at + 1 + self.below(4) :]

    def _splice(self, raw: bytes, other: bytes) -> bytes:
        return raw[: self.below(len(raw) + 1)] + other[self.below(len(other) + 1) :]

    def _randomize(self, raw: bytes, other: bytes) -> bytes:
        return self.random_bytes(self.below(len(raw) + 8))

    def _change_head(self, raw: bytes, other: bytes) -> bytes:
        at = self.below(min(8, len(raw) + 1))
        return raw[:at] + self.random_bytes(1) + raw[at + 1 :]

    def _set_limits(self, raw: bytes, other: bytes) -> bytes:
        octets = bytearray(raw)
        for _ in range(1 + self.below(9) if octets else 0):
            octets[self.below(len(octets))] = _LIMITS[self.below(len(_LIMITS))]
        return bytes(octets)

    def _repeat(self, raw: bytes, other: bytes) -> bytes:
        at = self.below(len(raw) + 1)
        return raw[:at] + raw[max(0, at - 1 - self.below(8)) : at] * (1 + self.below(3)) + raw[at:]
