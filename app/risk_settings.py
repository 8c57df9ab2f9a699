"""The settings of the risk: which events count, what a day and a course are, how many alerts there may be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from zoneinfo import ZoneInfo

from app.errors import ConfigError
from app.kafka.security import SecuritySettings
from app.setting import parts, setting
from models.counting import CountingRules

Courses = Literal["per-course", "site"]

GROUP = "Risk"
#: a component and a name, as Moodle's classes of events
_EVENT = re.compile(r"\\\w+\\event\\\w+")


@dataclass(frozen=True, slots=True)
class RiskSettings(SecuritySettings):
    """What the risk is computed from. Nothing of it affects the four topics that KSQL has too."""

    ignore_users: str = setting(
        GROUP, "1", "RISK_IGNORE_USERS", "userids that are no students, such as guest and administrators, id[,id…]"
    )
    submission_events: str = setting(
        GROUP,
        r"\mod_assign\event\assessable_submitted,\mod_quiz\event\attempt_submitted",
        "RISK_SUBMISSION_EVENTS",
        "eventnames that are submissions, name[,name…]; empty: none is",
    )
    courses: Courses = setting(
        GROUP, "per-course", "RISK_COURSES", "per-course: a risk for each student and course; site: for each student"
    )
    timezone: str = setting(GROUP, "UTC", "RISK_TIMEZONE", "time zone of the students' days, such as Europe/London")
    alert_budget: int = setting(
        GROUP, 0, "RISK_ALERT_BUDGET", "new alerts per course and week, the highest risks first; 0: any number"
    )

    @property
    def ignored_users(self) -> frozenset[int]:
        """The userids that are no students."""
        return frozenset(int(part) for part in parts(self.ignore_users))

    @property
    def submission_names(self) -> tuple[str, ...]:
        """The names of the events that are submissions."""
        return tuple(parts(self.submission_events))

    @property
    def counting(self) -> CountingRules:
        """What counts for the risk."""
        return CountingRules(self.ignored_users, self.submission_names, self.courses == "per-course")

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of the students' days."""
        return ZoneInfo(self.timezone)

    def check_risk(self) -> None:
        """Raise ConfigError, with one line, for a setting of this group that cannot be used."""
        for part in parts(self.ignore_users):
            if not re.fullmatch(r"-?[0-9]{1,18}", part):
                raise ConfigError(f"RISK_IGNORE_USERS: {part!r} is not a userid; set id[,id…], or nothing")
        for name in self.submission_names:
            if not _EVENT.fullmatch(name):
                raise ConfigError(
                    f"RISK_SUBMISSION_EVENTS: {_shown(name)} is not an event of Moodle, which look like "
                    r"\mod_assign\event\assessable_submitted; a shell may have taken the backslashes away"
                )
        if self.courses not in ("per-course", "site"):
            raise ConfigError(f"RISK_COURSES: {self.courses!r} is none of per-course, site")
        try:
            _ = self.zone
        except (ValueError, OSError, LookupError):  # not a name; a directory's; unknown
            raise ConfigError(
                f"RISK_TIMEZONE: {self.timezone!r} is not a time zone's name in IANA's list, e.g. Europe/London"
            ) from None
        if self.alert_budget < 0:
            raise ConfigError(f"RISK_ALERT_BUDGET: {self.alert_budget} is not at least 0")


def _shown(name: str) -> str:
    """Return a name in quotes, with its backslashes as they are."""
    return repr(name).replace("\\\\", "\\")
