"""Codes that stand for a student and a course in URLs, so that no log of a proxy and no history names a student."""

from __future__ import annotations

import base64
import re
import struct
from functools import lru_cache

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

_CODE = re.compile(r"[A-Za-z0-9_-]{22}")
#: with RISK_PAGE_IDS_IN_URL=yes: student.course
_IDS = re.compile(r"(-?[0-9]{1,19})\.(-?[0-9]{1,19})")
#: codes that are kept: open lists need the same ones again and again
_KEPT = 20_000
_PAIR = struct.Struct(">qq")


class Tokens:
    """Codes of a page: the same student and course always have the same one, which only this page can read.

    A code is one block of AES, the 16 bytes of both ids. A code that was made up stands for ids that do not exist, and
    it admits nobody: whoever asks must be allowed to see the course.
    """

    def __init__(self, key: bytes, *, plain: bool = False) -> None:
        """key: 32 bytes; plain: use the ids themselves."""
        self._cipher = Cipher(AES(key), ECB())  # one block each, and equal codes for equal ids are wanted
        self._plain = plain
        self._code = lru_cache(maxsize=_KEPT)(self._encrypt)

    def encode(self, student: int, course: int) -> str:
        """Return the code of a student in a course."""
        if self._plain:
            return f"{student}.{course}"
        return self._code(student, course)

    def decode(self, token: str) -> tuple[int, int] | None:
        """Return the student and the course for which a code stands; None if it is no code."""
        if self._plain and (ids := _IDS.fullmatch(token)):
            student, course = int(ids[1]), int(ids[2])
            return (student, course) if all(-(1 << 63) <= n < 1 << 63 for n in (student, course)) else None
        if not _CODE.fullmatch(token):
            return None
        block = base64.urlsafe_b64decode(f"{token}==")
        student, course = _PAIR.unpack(self._cipher.decryptor().update(block))
        # of the four codes that differ in the last 4 bits only, one is ours
        return (student, course) if self._code(student, course) == token else None

    def _encrypt(self, student: int, course: int) -> str:
        block = self._cipher.encryptor().update(_PAIR.pack(student, course))
        return base64.urlsafe_b64encode(block)[:22].decode()
