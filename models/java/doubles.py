"""Doubles as text, as JDKs before 19 write and read it: `Double.toString` and `Double.parseDouble`.

KSQL 5.3 runs on such a JDK, so its JSON holds `0.9`, `1.0`, `1.0E-4`, `1.0E7`, and sometimes digits other than the
shortest that read back as the same double: 1e23 is `9.999999999999999E22`, 2**63 - 2**10 has the 17 digits of
`9.2233720368547748E18`, and the smallest double is `4.9E-324`.

The digits come from Steele and White's free-format algorithm: divide, and stop at the first digit that is within
half a unit in the last place of the value. Two quirks of Java are kept: an integer below 2**63 keeps its own
digits, except those that its binary exponent cannot support, and a number that needs an exponent gets a second
digit before the algorithm looks for a stop. Compared with JDK 17 on two million doubles; some of them are in
tests/golden/jdk17_doubles.txt.
"""

from __future__ import annotations

import math
import re
import struct

from models.java.text import trim

#: bits of a double's significand, including the hidden one
_SIGNIFICAND = 53
_HIDDEN = 1 << (_SIGNIFICAND - 1)
#: binary exponents for which Java first tries a single 64-bit integer
_WHOLE_EXPONENTS = range(-21, 63)
#: Java's bit lengths of 5**n; beyond the table it estimates 3 bits a power
_FIVE_BITS = (0, *((5**n).bit_length() for n in range(1, 27)))
#: decimal notation in ASCII digits: no hexadecimal numbers, no words (NaN, Infinity), no suffixes (d, f)
_DOUBLE = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def parse_double(text: str) -> float | None:
    """`Double.parseDouble(text)` for decimal notation, which ignores blanks around it; None for any other text."""
    text = trim(text)
    return float(text) if _DOUBLE.fullmatch(text) else None


def java_double(x: float) -> str:
    """`Double.toString(x)` of a JDK before 19.

    Always with a point and at least one digit after it; with an exponent if the absolute value of x is below
    0.001 or at least 10**7. `NaN`, `Infinity` and `-Infinity` are words; zero keeps its sign.
    """
    if math.isnan(x):
        return "NaN"
    sign = "-" if math.copysign(1.0, x) < 0 else ""
    if math.isinf(x):
        return sign + "Infinity"
    if x == 0:
        return sign + "0.0"
    digits, exponent = _decimal(abs(x))
    return sign + _layout(digits, exponent)


def _layout(digits: str, exponent: int) -> str:
    """Place the decimal point: the value is 0.`digits` x 10**`exponent`."""
    if 0 < exponent < 8:
        whole = digits[:exponent].ljust(exponent, "0")
        return f"{whole}.{digits[exponent:] or '0'}"
    if -3 < exponent <= 0:
        return f"0.{'0' * -exponent}{digits}"
    return f"{digits[0]}.{digits[1:] or '0'}E{exponent - 1}"


def _decimal(x: float) -> tuple[str, int]:
    """The digits Java writes for x > 0, and the exponent of 0.`digits`: x = 0.`digits` x 10**exponent."""
    bits: int = struct.unpack(">q", struct.pack(">d", x))[0]
    fraction, biased = bits & (_HIDDEN - 1), bits >> (_SIGNIFICAND - 1)
    if biased:
        fraction |= _HIDDEN
        significant = _SIGNIFICAND
    else:  # subnormal: normalize, and remember how many bits are significant
        significant = fraction.bit_length()
        shift = _SIGNIFICAND - significant
        fraction <<= shift
        biased = 1 - shift
    exponent = biased - 1023
    tail = (fraction & -fraction).bit_length() - 1
    width = _SIGNIFICAND - tail
    if exponent in _WHOLE_EXPONENTS and width <= exponent + 1:
        return _whole(fraction, exponent, significant)
    # repr has the shortest digits that read back as x: one digit fewer is not within half a unit of it
    shortest = repr(x).partition("e")[0].replace(".", "").strip("0")
    return _divided(fraction >> tail, width, exponent, significant, len(shortest) - 1)


def _whole(fraction: int, exponent: int, significant: int) -> tuple[str, int]:
    """An integer below 2**63: its own digits, except those that its exponent cannot support."""
    shift = exponent - (_SIGNIFICAND - 1)
    value = fraction << shift if shift >= 0 else fraction >> -shift
    spare = exponent - significant - 1
    dropped = len(str(1 << spare)) - 1 if spare > 1 else 0
    if dropped:
        value, rest = divmod(value, 10**dropped)
        value += 2 * rest >= 10**dropped
    text = str(value)
    return text.rstrip("0"), len(text) + dropped


def _divided(fraction: int, width: int, exponent: int, significant: int, sure: int) -> tuple[str, int]:
    """Any other number: the digits of B / S x 10**ten until the rest is less than M, half a unit."""
    ten = _estimate(fraction, width, exponent)
    tiny = max(0, width - exponent - 1)
    five_b, five_s = max(0, -ten), max(0, ten)
    two_b, two_s = five_b + tiny + exponent, five_s + tiny
    two_m = two_b - significant
    two_b -= width - 1
    common = min(two_b, two_s)
    two_b, two_s, two_m = two_b - common, two_s - common, two_m - common
    if width == 1:  # a power of two: the next smaller double is only half as far away
        two_m -= 1
    if two_m < 0:
        two_b, two_s, two_m = two_b - two_m, two_s - two_m, 0
    word = _word(width + two_b + _five_bits(five_b), two_s + 1 + _five_bits(five_s + 1))
    scale = 5**five_b
    return _generate(fraction * scale << two_b, 5**five_s << two_s, scale << two_m, ten, word, sure)


def _estimate(fraction: int, width: int, exponent: int) -> int:
    """floor(log10) of the value, or one more: Java's linear approximation of the logarithm."""
    mantissa = fraction / (1 << (width - 1))
    return math.floor((mantissa - 1.5) * 0.289529654 + 0.176091259 + exponent * 0.301029995663981)


def _five_bits(power: int) -> int:
    """Java's estimate of the number of bits in 5**power."""
    return _FIVE_BITS[power] if power < len(_FIVE_BITS) else 3 * power


def _word(b_bits: int, tens_bits: int) -> int:
    """The width of the integers that Java computes with: 32, 64, or 0 for unbounded ones."""
    widest = max(b_bits, tens_bits)
    return 32 if widest < 32 else 64 if widest < 64 else 0


def _generate(b: int, s: int, m: int, ten: int, word: int, sure: int) -> tuple[str, int]:
    """Divide digit by digit, stop when less than half a unit is left, then round.

    With 32 or 64 bits M may overflow, as it does in Java, and the upper stop is strict; with unbounded
    integers it is not. The first `sure` digits contain no stop.
    """
    tens = 10 * s
    limit = tens if word else tens - 1  # upper stop: B + M > limit
    top = 1 << (word - 1) if word else math.inf  # the smallest number that overflows
    leap = _leap(b, s, m, sure, limit, top) if sure > 1 else None
    if leap is None:
        count = 1
        number, b = divmod(b, s)
        b, m = 10 * b, _wrap(10 * m, word)
        low, high = b < m, _wrap(b + m, word) > limit
    else:
        count, low, high = sure, False, False
        number, b, m = leap
    if number < 10 ** (count - 1) and not high:
        ten -= 1  # the estimate was one too high: drop the leading zero
        count -= 1
    if not -3 <= ten < 8:
        low = high = False  # written as d.dE: a second digit in any case
    while not (low or high):
        q, b = divmod(b, s)
        b, m = 10 * b, 10 * m
        if b + m < top:
            low, high = b < m, b + m > limit
        else:
            m = _wrap(m, word)
            low, high = (b < m, _wrap(b + m, word) > limit) if m > 0 else (True, True)
        number = 10 * number + q
        count += 1
    number += high and (not low or 2 * b > tens or (2 * b == tens and number % 2 == 1))
    text = str(number).rjust(count, "0")
    return text[:count], ten + 1 + len(text) - count


def _leap(b: int, s: int, m: int, sure: int, limit: int, top: float) -> tuple[int, int, int] | None:
    """The first `sure` digits in one division, with B and M after them; None if they may contain a stop.

    A stop condition, once true, stays true: if it is false after these digits, it was false before.
    """
    number, rest = divmod(b * 10 ** (sure - 1), s)
    b, m = 10 * rest, m * 10**sure
    if b < m or b + m > limit or b + m >= top:
        return None
    return number, b, m


def _wrap(n: int, word: int) -> int:
    """n as a signed integer of `word` bits, or n itself if word is 0."""
    if not word:
        return n
    n &= (1 << word) - 1
    return n - (1 << word) if n >> (word - 1) else n
