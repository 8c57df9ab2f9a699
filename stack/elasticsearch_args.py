"""The arguments that Elasticsearch 8.19 reads from its standard input at the start.

Its launcher writes them; this is what it writes, for an empty keystore. They are in no public format: another version
of Elasticsearch may need another.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from pathlib import Path

#: the class of the keystore, and the version of its format
KEYSTORE, KEYSTORE_FORMAT = "org.elasticsearch.common.settings.KeyStoreWrapper", 7
#: the only entry of an empty keystore: random bytes
SEED, SEED_BYTES = "keystore.seed", 20
FALSE = ABSENT = b"\0"
#: tag of a setting whose value is a string
STRING = b"\0"


def encode(settings: Mapping[str, str], config: Path, logs: Path) -> bytes:
    """Encode the arguments of a node in the foreground without a pid file."""
    parts = [FALSE, FALSE, ABSENT, _text(KEYSTORE), _keystore(), _length(len(settings))]
    for name, value in sorted(settings.items()):
        parts += [_text(name), STRING, _text(value)]
    return b"".join([*parts, _text(str(config)), _text(str(logs))])


def _keystore() -> bytes:
    """A keystore that is open, with no password, no file and one entry."""
    seed = secrets.token_hex(SEED_BYTES // 2).encode()
    entry = _bytes(seed) + _bytes(hashlib.sha256(seed).digest())
    return KEYSTORE_FORMAT.to_bytes(4, "big") + FALSE + ABSENT + _length(1) + _text(SEED) + entry + FALSE


def _length(number: int) -> bytes:
    """A variable-length integer, the low seven bits first."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def _text(text: str) -> bytes:
    """A string: the number of its UTF-16 units, then each character in one to three bytes."""
    encoded = text.encode("utf-16-be", "surrogatepass")
    units = [encoded[i : i + 2].decode("utf-16-be", "surrogatepass") for i in range(0, len(encoded), 2)]
    return _length(len(units)) + "".join(units).encode("utf-8", "surrogatepass")


def _bytes(data: bytes) -> bytes:
    return _length(len(data)) + data
