"""The words and URLs that the templates use."""

from __future__ import annotations

from datetime import tzinfo
from functools import cache, partial

from jinja2 import Environment
from markupsafe import Markup

from models.assessment import Band
from page.cases.actions import Kind, State
from page.store.layout import SITE
from page.web import words


def add_words(env: Environment, zone: tzinfo, moodle_url: str = "") -> None:
    """Add to the environment of the templates what they say values with.

    zone: of times where the browser does not know better; moodle_url: of Moodle's first page, empty: no links to it.
    """
    env.filters |= {
        "percent": words.percent,
        "number": words.number,
        "plural": words.plural,
        "day_iso": words.day_iso,
        "day_short": words.day_short,
        "day_text": words.day_text,
        "instant_iso": words.instant_iso,
        "instant_text": partial(words.instant_text, zone=zone),
        "duration": words.duration,
        "silence": words.silence,
        "course_name": words.course_name,
        "reason_texts": words.reason_texts,
        "band_word": words.band_word,
        "state_word": words.state_word,
    }
    env.globals |= {
        "picture": picture,
        "points": words.points,
        "days_silent": words.days_silent,
        "moodle": Moodle(moodle_url),
        "Band": Band,
        "State": State,
        "Kind": Kind,
        "BANDS": words.BANDS,
        "STATES": words.STATES,
        "KINDS": words.KINDS,
        "SITE": SITE,
    }


@cache
def picture(name: str) -> Markup:
    """A picture of icons.html."""
    tag = '<svg class="icon icon-{0}" width="16" height="16" aria-hidden="true" focusable="false">'
    return Markup(tag + '<use href="#icon-{0}"/></svg>').format(name)


class Moodle:
    """Links to the pages of Moodle. False where its URL is not known."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def __bool__(self) -> bool:
        return bool(self._url)

    def profile(self, student: int, course: int) -> str:
        """The profile of a student, in the course if there is one."""
        if course > 0:
            return f"{self._url}/user/view.php?id={student}&course={course}"
        return f"{self._url}/user/profile.php?id={student}"

    def message(self, student: int) -> str:
        """The page to write a message to a student."""
        return f"{self._url}/message/index.php?id={student}"

    def course(self, course: int) -> str:
        """The first page of a course."""
        return f"{self._url}/course/view.php?id={course}"
