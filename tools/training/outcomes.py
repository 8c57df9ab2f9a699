"""How each student's enrolment in a course ended, and when: OULAD's, or those of a file (outcomes_file.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from models.rules import Bools, Int64s
from tools.replay import oulad

Strings = npt.NDArray[np.str_]

DAY_MS = 86_400_000
#: a day after all others, for students who stayed, and before all others, for those of unknown registration
FAR = 1 << 30
#: the outcomes of a file; the first two are what the model predicts
OUTCOMES = ("withdrawn", "failed", "passed")


@dataclass(frozen=True)
class Outcomes:
    """n enrolments, each of a student in a course, and what became of them. Days are days since 1970-01-01."""

    student: Int64s
    #: courseid [n], 0 for all if the log or the outcomes have no courses
    course: Int64s
    #: index into `OUTCOMES` [n]
    outcome: Int64s
    #: first day of the enrolment [n], -FAR if it is not known
    registered: Int64s
    #: last day at whose end the student is enrolled [n], FAR if the student stayed
    last: Int64s
    #: course → the day from which landmarks are counted; without it, the first day with 20 students
    start: Mapping[int, int] = field(default_factory=dict)
    #: course → its name in reports
    names: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.student)

    @property
    def lost(self) -> Bools:
        """Whether each enrolment ended withdrawn or failed [n]."""
        lost: Bools = self.outcome < OUTCOMES.index("passed")
        return lost

    @property
    def withdrawn(self) -> Bools:
        """Whether each student withdrew on a day that is known [n]."""
        withdrawn: Bools = (self.outcome == OUTCOMES.index("withdrawn")) & (self.last < FAR)
        return withdrawn

    @property
    def courses(self) -> list[int]:
        """The distinct courses, ascending."""
        courses: list[int] = np.unique(self.course).tolist()
        return courses

    def name(self, course: int) -> str:
        """The name of a course in reports."""
        return self.names.get(course, f"course {course}" if course else "all courses")

    def take(self, rows: Int64s | Bools) -> Outcomes:
        """The enrolments at `rows`."""
        return replace(
            self,
            student=self.student[rows],
            course=self.course[rows],
            outcome=self.outcome[rows],
            registered=self.registered[rows],
            last=self.last[rows],
        )

    def of_course(self, course: int) -> Outcomes:
        """The enrolments in one course."""
        return self.take(self.course == course)

    def enrolled(self, day: int) -> Bools:
        """Whether each student is enrolled at the end of `day` [n]."""
        enrolled: Bools = (self.registered <= day) & (self.last >= day)
        return enrolled


def of_oulad(names: Sequence[str] | None = None) -> Outcomes:
    """The enrolments of the shipped presentations, each a course of its own; None: all."""
    presentations = oulad.select_presentations(names)
    enrolments = oulad.load_enrolments()
    keep = np.isin(enrolments.presentation, [oulad.PRESENTATIONS.index(p) for p in presentations])
    presentation, result = enrolments.presentation[keep], enrolments.result[keep]
    start = np.array([p.start_ms // DAY_MS for p in oulad.PRESENTATIONS])[presentation]
    registered, unregistered = enrolments.registered[keep], enrolments.unregistered[keep]
    stayed = unregistered >= oulad.NEVER
    return Outcomes(
        student=enrolments.student[keep],
        course=presentation + oulad.FIRST_COURSE,
        outcome=np.where(result == "Withdrawn", 0, np.where(result == "Fail", 1, 2)),
        registered=np.where(registered <= -oulad.NEVER, -FAR, start + registered),
        # on the day of unregistration, the student is no longer enrolled at its end
        last=np.where(stayed, FAR, start + unregistered - 1),
        start={p.course: p.start_ms // DAY_MS for p in presentations},
        names={p.course: str(p) for p in presentations},
    )
