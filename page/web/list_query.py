"""What a list of students shows: the filters, the order and the page that its URL names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import urlencode

from models.assessment import Band
from page.cases.actions import State
from page.store.queries import Filter, Sort
from page.web.words import BANDS, STATES, Word

#: rows on a page
ROWS = 50
#: choices of the filter `silent`: at least so many days without a visit
SILENT = (7, 14, 28)
_NUMBER = re.compile(r"-?[0-9]{1,18}")
_T = TypeVar("_T")


class QueryError(ValueError):
    """A URL that names what there is not: one sentence for the visitor."""


SORTS = {
    Sort.RANK: "Contact first",
    Sort.RISK: "Highest risk",
    Sort.CHANGE: "Risen most in a week",
    Sort.SILENT: "Longest without a visit",
    Sort.STUDENT: "Student id",
}


@dataclass(frozen=True, slots=True)
class ListQuery:
    """Filters (None, 0 or False: any), order, and page from 1."""

    course: int | None = None
    band: Band | None = None
    #: at least so many days without a visit
    silent: int = 0
    state: State | None = None
    #: assigned to the visitor
    mine: bool = False
    #: with an open alert
    alert: bool = False
    sort: Sort = Sort.RANK
    page: int = 1

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> ListQuery:
        """Read the parameters of a URL; empty ones are as if they were not there. Raises QueryError."""
        given = {name: text for name, value in parameters.items() if (text := value.strip())}
        return cls(
            course=_integer("course", given["course"], -1, 1 << 62) if "course" in given else None,
            band=_named("band", given["band"], BANDS) if "band" in given else None,
            silent=_integer("number of days", given["silent"], 0, 9999) if "silent" in given else 0,
            state=_named("state", given["state"], STATES) if "state" in given else None,
            mine="mine" in given,
            alert="alert" in given,
            sort=_sort(given.get("sort", Sort.RANK)),
            page=_integer("page", given.get("page", "1"), 1, 1_000_000),
        )

    @property
    def is_filtered(self) -> bool:
        """Whether some students may be left out."""
        return replace(self, sort=Sort.RANK, page=1) != ListQuery()

    @property
    def words(self) -> list[str]:
        """The filters in words, but for the course."""
        words = []
        if self.alert:
            words.append("open alert")
        if self.band is not None:
            words.append(f"risk {BANDS[self.band].text.lower()}")
        if self.silent:
            words.append(f"last visit {self.silent} days ago or more")
        if self.state is not None:
            words.append(f"case {STATES[self.state].text.lower()}")
        if self.mine:
            words.append("assigned to me")
        return words

    def parameters(self, **changes: Any) -> str:
        """The query of a URL, empty or with its question mark; of another list with `changes`, from its first page."""
        query = replace(self, **{"page": 1, **changes})
        pairs: dict[str, object] = {}
        if query.course is not None:
            pairs["course"] = query.course
        if query.band is not None:
            pairs["band"] = BANDS[query.band].name
        if query.silent:
            pairs["silent"] = query.silent
        if query.state is not None:
            pairs["state"] = STATES[query.state].name
        pairs |= {name: 1 for name in ("alert", "mine") if getattr(query, name)}
        if query.sort is not Sort.RANK:
            pairs["sort"] = query.sort.value
        if query.page > 1:
            pairs["page"] = query.page
        return "?" + urlencode(pairs) if pairs else ""

    def url(self, **changes: Any) -> str:
        """The URL of the list, or of another list with `changes`."""
        return "/" + self.parameters(**changes)

    def chosen(self, user: str) -> Filter:
        """The filters as the database knows them; user: the visitor."""
        return Filter(
            course=self.course,
            bands=frozenset() if self.band is None else frozenset({int(self.band)}),
            states=frozenset() if self.state is None else frozenset({int(self.state)}),
            alert=True if self.alert else None,
            silent=self.silent or None,
            assignee=user if self.mine else None,
        )


def _integer(name: str, text: str, low: int, high: int) -> int:
    if not _NUMBER.fullmatch(text) or not low <= int(text) <= high:
        raise QueryError(f"The address of this page asks for a {name} that does not exist.")
    return int(text)


def _named(name: str, text: str, choices: Mapping[_T, Word]) -> _T:
    for value, word in choices.items():
        if word.name == text:
            return value
    raise QueryError(
        f"The address of this page asks for a {name} that is none of {', '.join(w.name for w in choices.values())}."
    )


def _sort(text: str) -> Sort:
    try:
        return Sort(text)
    except ValueError:
        raise QueryError(f"The address of this page asks for an order that is none of {', '.join(Sort)}.") from None
