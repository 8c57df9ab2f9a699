"""`String.trim`, and how Java decodes UTF-8."""

from __future__ import annotations

_REPLACEMENT = "\ufffd".encode()
#: what `String.trim` removes: everything up to and including the space
_WHITESPACE = "".join(map(chr, range(0x21)))


def trim(text: str) -> str:
    """`text.trim()`."""
    return text.strip(_WHITESPACE)


def replace_malformed(raw: bytes) -> bytes:
    """`new String(raw, UTF_8).getBytes(UTF_8)`: malformed parts become U+FFFD.

    One for each part that Python's decoder would replace, with one exception: a whole encoded surrogate becomes
    one U+FFFD, where Python replaces each of its bytes.
    """
    done, rest = b"", raw
    while True:
        try:
            rest.decode()
        except UnicodeDecodeError as error:
            size = error.end - error.start
            if rest[error.start] == 0xED and size == 1 and _is_continuation(rest, error.start + 1):
                size = 3 if _is_continuation(rest, error.start + 2) else 2
            done += rest[: error.start] + _REPLACEMENT
            rest = rest[error.start + size :]
        else:
            return done + rest


def _is_continuation(raw: bytes, pos: int) -> bool:
    return pos < len(raw) and raw[pos] & 0xC0 == 0x80
