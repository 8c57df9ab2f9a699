"""Whoever guesses passwords waits, and keeps others out as little as possible."""

from __future__ import annotations

from itertools import count

import pytest

from page.access import throttle
from page.access.throttle import Throttle


class Clock:
    """Seconds that pass when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def slowed(clock: Clock) -> Throttle:
    return Throttle(clock)


def fail(slowed: Throttle, clock: Clock, names: list[str], addresses: list[str]) -> float:
    """Fail once with each name and address, waiting as long as asked; return how long that took [s]."""
    began = clock.now
    for name, address in zip(names, addresses, strict=True):
        if wait := slowed.begin(name, address):
            clock.now += wait
            assert slowed.begin(name, address) == 0
    return clock.now - began


def test_a_few_mistakes_cost_nothing(slowed, clock):
    assert fail(slowed, clock, ["ada"] * 4, ["10.0.0.1"] * 4) == 0


def test_a_name_that_is_guessed_waits_longer_and_longer(slowed, clock):
    """A hundred guesses at one address take most of a day."""
    fail(slowed, clock, ["ada"] * 4, ["10.0.0.1"] * 4)
    assert [fail(slowed, clock, ["ada"], ["10.0.0.1"]) for _ in range(5)] == [1, 2, 4, 8, 16]
    assert fail(slowed, clock, ["ada"] * 91, ["10.0.0.1"] * 91) > 6 * 3600


def test_a_try_during_the_wait_is_not_counted(slowed, clock):
    fail(slowed, clock, ["ada"] * 5, ["10.0.0.1"] * 5)
    waits = [slowed.begin("ada", "10.0.0.1") for _ in range(50)]
    assert waits == [2.0] * 50


def test_the_owner_gets_in_from_elsewhere_while_somebody_guesses(slowed, clock):
    fail(slowed, clock, ["ada"] * 30, ["10.0.0.1"] * 30)
    assert slowed.begin("ada", "10.0.0.2") == 0


def test_guesses_from_everywhere_are_slowed_by_name(slowed, clock):
    addresses = [f"10.0.{n}.1" for n in range(100)]
    took = fail(slowed, clock, ["ada"] * 100, addresses)
    assert 30 * 60 <= took <= 50 * 60
    assert slowed.begin("ben", "10.0.0.1") == 0


def test_names_that_are_tried_from_one_address_are_slowed(slowed, clock):
    names = [f"user{n}" for n in range(60)]
    assert fail(slowed, clock, names[:20], ["10.0.0.1"] * 20) == 0
    assert fail(slowed, clock, names[20:], ["10.0.0.1"] * 40) > 6 * 3600


def test_an_ipv6_customer_has_one_address(slowed, clock):
    names = [f"user{n}" for n in range(30)]
    assert fail(slowed, clock, names, [f"2001:db8::{n:x}" for n in range(30)]) > 60
    assert slowed.begin("ada", "2001:db8:0:1::1") == 0


def test_an_address_of_ipv4_is_the_same_in_ipv6(slowed, clock):
    fail(slowed, clock, ["ada"] * 5, ["10.0.0.1"] * 5)
    assert slowed.begin("ada", "::ffff:10.0.0.1") > 0


def test_an_address_from_which_many_log_in_is_not_slowed(slowed):
    for n in range(200):
        assert slowed.begin(f"user{n}", "10.0.0.1") == 0
        slowed.succeeded(f"user{n}", "10.0.0.1")


def test_a_success_forgets_the_failures_of_the_name(slowed, clock):
    fail(slowed, clock, ["ada"] * 8, ["10.0.0.1"] * 8)
    slowed.succeeded("ada", "10.0.0.1")
    assert fail(slowed, clock, ["ada"] * 4, ["10.0.0.1"] * 4) == 0


def test_failures_are_forgotten_in_time(slowed, clock):
    fail(slowed, clock, ["ada"] * 12, ["10.0.0.1"] * 12)
    clock.now += 2 * 3600
    assert fail(slowed, clock, ["ada"] * 4, ["10.0.0.1"] * 4) == 0


def test_memory_is_bounded(slowed, clock, monkeypatch):
    monkeypatch.setattr(throttle, "_MOST", 30)
    for n in count():
        slowed.begin(f"user{n}", f"10.{n // 250}.{n % 250}.1")
        if n == 200:
            break
    assert len(slowed._failures) <= 30  # noqa: SLF001
