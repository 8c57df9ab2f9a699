"""Double.toString as on the JDKs that KSQL 5.3 runs on."""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.java.doubles import java_double

RECORDED = (Path(__file__).parent / "golden" / "jdk17_doubles.txt").read_text().splitlines()
finite = st.floats(allow_nan=False, allow_infinity=False)


def from_bits(bits: str) -> float:
    (x,) = struct.unpack(">d", bytes.fromhex(bits))
    return float(x)


def digits(text: str) -> str:
    """The significant digits of a number's text."""
    return re.sub(r"[-.]|[eE].*", "", text).strip("0")


def test_equals_jdk_17() -> None:
    """1,574 recorded doubles, 300 of them with digits that are not the shortest."""
    recorded = [line.split() for line in RECORDED]
    assert {bits: java_double(from_bits(bits)) for bits, _ in recorded} == dict(recorded)


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (0.9, "0.9"),
        (1.0, "1.0"),
        (0.001, "0.001"),
        (0.0009, "9.0E-4"),
        (9999999.0, "9999999.0"),
        (1e7, "1.0E7"),
        (-0.0, "-0.0"),
        (1e23, "9.999999999999999E22"),
        (7766279631452241920.0, "7.7662796314522419E18"),
        (5e-324, "4.9E-324"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (math.nan, "NaN"),
    ],
)
def test_format(x: float, text: str) -> None:
    assert java_double(x) == text


@settings(deadline=None)
@given(finite)
def test_round_trip(x: float) -> None:
    """The text reads back as the same double."""
    assert float(java_double(x)) == x
    assert math.copysign(1, float(java_double(x))) == math.copysign(1, x)


@settings(deadline=None)
@given(finite)
def test_has_one_of_two_forms(x: float) -> None:
    """Plain from 10**-3 to below 10**7, else with an exponent; at least one digit on each side of the point."""
    text = java_double(x)
    if x == 0 or 1e-3 <= abs(x) < 1e7:
        assert re.fullmatch(r"-?(0|[1-9][0-9]*)\.[0-9]+", text)
    else:
        assert re.fullmatch(r"-?[1-9]\.[0-9]+E-?[1-9][0-9]*", text)
    # no superfluous zero at the end
    assert re.search(r"\.(0|[0-9]*[1-9])(E|$)", text)


@settings(deadline=None)
@given(finite.map(abs))
def test_never_has_fewer_digits_than_the_shortest_text(x: float) -> None:
    assert len(digits(java_double(x))) >= len(digits(repr(x)))


@settings(deadline=None)
@given(st.floats(min_value=0.001, max_value=1, exclude_max=True))
def test_probabilities_have_the_shortest_digits(x: float) -> None:
    """In the range of predictions, Java's digits equal Python's: they differ only for large and tiny numbers."""
    assert digits(java_double(x)) == digits(repr(x))


@settings(deadline=None)
@given(finite)
def test_the_sign_does_not_change_the_digits(x: float) -> None:
    assert java_double(-abs(x)) == "-" + java_double(abs(x))
