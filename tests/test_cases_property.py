"""However two pages act, read, crash and are rebuilt, all come to the same cases, and nothing confirmed is lost."""

from __future__ import annotations

import itertools
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from page.cases.actions import Kind
from page.cases.desk import Done, NotWritten
from tests.support.case_log import ENTRIES, CaseLog, Page, folded
from tests.support.effort import examples

KINDS = [kind.value for kind in Kind]
STEPS = ("act", "act", "act", "resend", "resend", "follow", "rebuild", "lose", "forget", "forget partly")
#: case and id of an action
Ref = tuple[tuple[int, int], str]


class Pages:
    """Two pages on one topic, and what their visitors were told. Mutable."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.log = rng, CaseLog()
        self.pages = [Page(self.log), Page(self.log)]
        self.ids = map("action-{:04}".format, itertools.count())
        #: the forms that were sent
        self.forms: list[tuple[tuple[int, int], int, str, str]] = []
        #: whether an action was last said to be done
        self.told: dict[Ref, bool] = {}

    def act(self) -> None:
        """Somebody acts on the version that a page shows, or on one from before; at times another is faster."""
        page, entry = self.rng.choice(self.pages), self.rng.choice(ENTRIES)
        version = max(0, page.version(entry) - (self.rng.random() < 0.2))
        self.send(page, (entry, version, self.rng.choice(KINDS), next(self.ids)))

    def resend(self) -> None:
        """Somebody sends a form again, to either page, at times with the version that this shows now."""
        if self.forms:
            page, (entry, version, kind, action) = self.rng.choice(self.pages), self.rng.choice(self.forms)
            version = page.version(entry) if self.rng.random() < 0.3 else version
            self.send(page, (entry, version, kind, action))

    def send(self, page: Page, form: tuple[tuple[int, int], int, str, str]) -> None:
        entry, version, kind, action = form
        self.forms.append(form)
        if page is self.pages[0] and self.rng.random() < 0.3:
            other = self.rng.choice([self.act_elsewhere, self.pages[1].follow])
            page.meanwhile = lambda: (setattr(page, "meanwhile", lambda: None), other())
        try:
            answer = page.act("ann", entry, version, kind, action, note="note", assignee="bob")
        except NotWritten:
            # the page does not know whether it is recorded: "not recorded", if it said so before, is taken back
            if not self.told.get((entry, action), True):
                del self.told[entry, action]
            return
        self.told[entry, action] = isinstance(answer, Done)

    def act_elsewhere(self) -> None:
        entry = self.rng.choice(ENTRIES)
        form = entry, self.pages[1].version(entry), self.rng.choice(KINDS), next(self.ids)
        self.send(self.pages[1], form)

    def follow(self) -> None:
        """A page reads on, not always to the end."""
        page = self.rng.choice(self.pages)
        page.follow(self.rng.randint(page.next, len(self.log.records)))

    def rebuild(self) -> None:
        """A page loses its disk."""
        self.pages[self.rng.randrange(2)] = Page(self.log)

    def lose(self) -> None:
        """A page loses records on their way to Kafka, or answers, or stops doing so."""
        page = self.rng.choice(self.pages)
        page.loses_records, page.loses_answers = self.rng.choice([(False, False), (True, False), (False, True)])

    def forget(self, share: float = 1.0) -> None:
        """`forget` erases a student; share: of the keys, if it is killed."""
        student = self.rng.choice(ENTRIES)[0]
        keys = self.log.alive(student)
        for key in keys[: round(share * len(keys))]:
            self.log.append(key, None)
        if keys and share:
            self.told = {ref: done for ref, done in self.told.items() if ref[0][0] != student}

    def step(self, name: str) -> None:
        if name == "forget partly":
            self.forget(self.rng.random())
        else:
            getattr(self, name)()


@settings(max_examples=examples(400))
@given(seed=st.integers(0, 1 << 32), names=st.lists(st.sampled_from(STEPS), max_size=60))
def test_all_pages_come_to_the_same(seed: int, names: list[str]) -> None:
    """Also those that are built anew from what compaction leaves."""
    state = Pages(random.Random(seed))
    for name in names:
        state.step(name)
    one, two = state.pages
    for page in state.pages:
        page.follow()
    assert one.rows() == two.rows() == folded(state.log.records)
    accepted = [row for row in one.rows() if len(row) == 9]
    asked_for = {(entry, version, action) for entry, version, _, action in state.forms}
    assert all((row[:2], row[2] - 1, row[3]) in asked_for for row in accepted), "made for the version before"
    actions = [(row[:2], row[3]) for row in accepted]
    assert len(actions) == len(set(actions)), "an action counts once"
    erased = erased_partly(state)
    for ref, done in state.told.items():
        if ref[0] not in erased:
            assert (ref in actions) is done, ref


def erased_partly(state: Pages) -> set[tuple[int, int]]:
    """The cases of students of whom something was erased: what their visitors were told is void."""
    students = {int(r.key.split(b"|")[0]) for r in state.log.records if r.key is not None and r.value is None}
    return {entry for entry in ENTRIES if entry[0] in students}


@settings(max_examples=examples(400))
@given(seed=st.integers(0, 1 << 32), names=st.lists(st.sampled_from(STEPS), max_size=60))
def test_compaction_changes_nothing(seed: int, names: list[str]) -> None:
    """Once `forget` has come to its end, with the tombstones and without them."""
    state = Pages(random.Random(seed))
    for name in names:
        state.step(name)
    for student in {int(r.key.split(b"|")[0]) for r in state.log.records if r.key is not None and r.value is None}:
        for key in state.log.alive(student):
            state.log.append(key, None)
    for _ in range(10):
        state.step(state.rng.choice(("act", "resend", "follow", "rebuild")))
    page = state.pages[0]
    page.follow()
    for tombstones in (True, False):
        assert page.rows() == folded(state.log.compacted(tombstones=tombstones))
