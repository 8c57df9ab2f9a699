"""Text of a double as Java writes it: `Double.toString`, as JDKs before 19 do it.

KSQL 5.3 runs on such a JDK, so its JSON holds `0.9`, `1.0`, `1.0E-4`, `1.0E7`, and now and then other
digits than the shortest that read back: 1e23 is `9.999999999999999E22`, 2**63 - 2**10 has the 17 digits
of `9.2233720368547748E18`, and the smallest double is `4.9E-324`.

The digits come from Steele and White's free-format algorithm: divide, and stop at the first digit that
lies within half a unit in the last place of the value. Two habits of Java are kept: a whole number below
2**63 keeps its own digits, less those its binary exponent cannot support, and a number that needs an
exponent gets a second digit before a stop is looked for. Compared with JDK 17 on two million doubles;
tests/golden/jdk17_doubles.txt holds some of them.
"""

from __future__ import annotations

import math
import struct

#: bits of a double's significand, the hidden one included
_SIGNIFICAND = 53
_HIDDEN = 1 << (_SIGNIFICAND - 1)
#: binary exponents whose numbers Java first tries to handle as one 64-bit integer
_WHOLE_EXPONENTS = range(-21, 63)
#: Java's bit lengths of 5**n; from the end of the table on it reckons 3 bits a power
_FIVE_BITS = (0, *((5**n).bit_length() for n in range(1, 27)))


def java_double(x: float) -> str:
    """`Double.toString(x)` of a JDK before 19.

    Always with a point and at least one digit after it; with an exponent where x is below 0.001 or
    at least 10**7 in size. `NaN`, `Infinity` and `-Infinity` are words; zero keeps its sign.
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
    """Places the point: the value is 0.`digits` x 10**`exponent`."""
    if 0 < exponent < 8:
        whole = digits[:exponent].ljust(exponent, "0")
        return f"{whole}.{digits[exponent:] or '0'}"
    if -3 < exponent <= 0:
        return f"0.{'0' * -exponent}{digits}"
    return f"{digits[0]}.{digits[1:] or '0'}E{exponent - 1}"


def _decimal(x: float) -> tuple[str, int]:
    """The digits Java writes for x > 0, and the exponent that puts 0.`digits` in place."""
    bits: int = struct.unpack(">q", struct.pack(">d", x))[0]
    fraction, biased = bits & (_HIDDEN - 1), bits >> (_SIGNIFICAND - 1)
    if biased:
        fraction |= _HIDDEN
        significant = _SIGNIFICAND
    else:  # subnormal: normalize, and remember how few bits really are there
        significant = fraction.bit_length()
        shift = _SIGNIFICAND - significant
        fraction <<= shift
        biased = 1 - shift
    exponent = biased - 1023
    tail = (fraction & -fraction).bit_length() - 1
    width = _SIGNIFICAND - tail
    if exponent in _WHOLE_EXPONENTS and width <= exponent + 1:
        return _whole(fraction, exponent, significant)
    # the shortest digits that read back as x: one digit fewer cannot be within half a unit of it
    shortest = repr(x).partition("e")[0].replace(".", "").strip("0")
    return _divided(fraction >> tail, width, exponent, significant, len(shortest) - 1)


def _whole(fraction: int, exponent: int, significant: int) -> tuple[str, int]:
    """A whole number below 2**63: its own digits, less those its exponent cannot support."""
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
    """Everything else: digits of B / S x 10**ten until less than M, half a unit, is left."""
    ten = _estimate(fraction, width, exponent)
    tiny = max(0, width - exponent - 1)
    five_b, five_s = max(0, -ten), max(0, ten)
    two_b, two_s = five_b + tiny + exponent, five_s + tiny
    two_m = two_b - significant
    two_b -= width - 1
    common = min(two_b, two_s)
    two_b, two_s, two_m = two_b - common, two_s - common, two_m - common
    if width == 1:  # a power of two: the neighbour below is half as far
        two_m -= 1
    if two_m < 0:
        two_b, two_s, two_m = two_b - two_m, two_s - two_m, 0
    word = _word(width + two_b + _five_bits(five_b), two_s + 1 + _five_bits(five_s + 1))
    scale = 5**five_b
    return _generate(fraction * scale << two_b, 5**five_s << two_s, scale << two_m, ten, word, sure)


def _estimate(fraction: int, width: int, exponent: int) -> int:
    """floor(log10) of the value, or one more: Java's straight line through the logarithm."""
    mantissa = fraction / (1 << (width - 1))
    return math.floor((mantissa - 1.5) * 0.289529654 + 0.176091259 + exponent * 0.301029995663981)


def _five_bits(power: int) -> int:
    """Java's count of the bits in 5**power."""
    return _FIVE_BITS[power] if power < len(_FIVE_BITS) else 3 * power


def _word(b_bits: int, tens_bits: int) -> int:
    """The width of the integers Java computes in: 32, 64, or 0 for unbounded ones."""
    widest = max(b_bits, tens_bits)
    return 32 if widest < 32 else 64 if widest < 64 else 0


def _generate(b: int, s: int, m: int, ten: int, word: int, sure: int) -> tuple[str, int]:
    """Divides digit by digit; stops where less than half a unit is left, then rounds.

    In 32 or 64 bits M may overflow, as it does in Java, and the upper stop is strict; with
    unbounded integers it is not. No stop is due within the first `sure` digits.
    """
    tens = 10 * s
    limit = tens if word else tens - 1  # stop above where B + M > limit
    top = 1 << (word - 1) if word else math.inf  # the first number that overflows
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
        ten -= 1  # the estimate was one too high: no leading zero
        count -= 1
    if not -3 <= ten < 8:
        low = high = False  # it will be written d.dE: a second digit in any case
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
    """The first `sure` digits at once, with B and M after them; None if that needs a closer look.

    A stop once due stays due, so where none is due after them, none was before.
    """
    number, rest = divmod(b * 10 ** (sure - 1), s)
    b, m = 10 * rest, m * 10**sure
    if b < m or b + m > limit or b + m >= top:
        return None
    return number, b, m


def _wrap(n: int, word: int) -> int:
    """n as a signed integer of `word` bits, or n itself where word is 0."""
    if not word:
        return n
    n &= (1 << word) - 1
    return n - (1 << word) if n >> (word - 1) else n
