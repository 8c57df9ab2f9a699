"""Who asks, and what they may see."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Visitor:
    """A user of the page, as the middleware has recognised them: `request.state.visitor`."""

    #: "local" where the page asks nobody to log in
    name: str
    #: the courses that the visitor may see; None: all of them, and what spans courses, such as sessions
    courses: frozenset[int] | None = None
    #: token that each form sends back, in the field `csrf`
    csrf: str = ""

    def sees(self, course: int) -> bool:
        """Whether the visitor may see a course; page.store.layout.SITE only with all courses."""
        return self.courses is None or course in self.courses
