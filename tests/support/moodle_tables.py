"""A few of Moodle's tables with the students of one course run, for docs/outcomes.sql, and what it must select."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

QUERY = (Path(__file__).parents[2] / "docs" / "outcomes.sql").read_text(encoding="utf-8")

#: the columns that the query reads, of Moodle 4's tables
TABLES = {
    "mdl_course": "id, startdate, enddate",
    "mdl_context": "id, contextlevel, instanceid",
    "mdl_role": "id, archetype TEXT",
    "mdl_role_assignments": "contextid, roleid, userid",
    "mdl_enrol": "id, courseid",
    "mdl_user_enrolments": "enrolid, userid, status, timestart, timeend, timecreated, timemodified",
    "mdl_course_completions": "course, userid, timecompleted",
    "mdl_grade_items": "id, courseid, itemtype TEXT, gradepass, grademax",
    "mdl_grade_grades": "itemid, userid, finalgrade",
    "mdl_grade_grades_history": "id, itemid, userid, finalgrade",
    "mdl_logstore_standard_log": (
        "action TEXT, target TEXT, objectid, contextlevel, courseid, relateduserid, timecreated"
    ),
}
#: columns of another type than BIGINT
POINTS = dict.fromkeys(("gradepass", "grademax", "finalgrade"), "DECIMAL(10,5)")
STUDENT, TEACHER = 5, 3
#: a run with a pass mark, one without, one that has not ended, and one that never ends
ENDED, UNMARKED, RUNNING, ENDLESS = 100, 101, 102, 103


def at(day: str) -> int:
    """Return noon of a day in UTC [s]."""
    return int(datetime.fromisoformat(day).replace(hour=12, tzinfo=UTC).timestamp())


START, BEGUN, LEFT, END, AFTER = map(at, ("2024-02-01", "2024-02-05", "2024-03-10", "2024-06-01", "2024-07-01"))


def statements() -> list[str]:
    """Return the SQL that creates the tables and their rows."""
    rows: dict[str, list[tuple[object, ...]]] = {name: [] for name in TABLES}
    rows["mdl_course"] = [(ENDED, START, END), (UNMARKED, START, END), (RUNNING, START, at("2100-01-01"))]
    rows["mdl_course"].append((ENDLESS, START, 0))
    rows["mdl_context"] = [(course + 1000, 50, course) for course in (ENDED, UNMARKED, RUNNING, ENDLESS)]
    rows["mdl_context"].append((7, 10, ENDED))  # the site's, which happens to have a course's number
    rows["mdl_role"] = [(STUDENT, "student"), (TEACHER, "editingteacher")]
    # two ways to be enrolled in the first run
    rows["mdl_enrol"] = [(10, ENDED), (11, ENDED), (12, UNMARKED), (13, RUNNING), (14, ENDLESS)]
    rows["mdl_grade_items"] = [(1, ENDED, "course", 60, 100), (2, UNMARKED, "course", 0, 100), (3, ENDED, "mod", 1, 1)]

    def enrol(user: int, enrol: int, *, status: int = 0, end: int = 0, changed: int = BEGUN, start: int = 0) -> None:
        rows["mdl_user_enrolments"].append((enrol, user, status, start, end, BEGUN, changed))
        course = dict(rows["mdl_enrol"])[enrol]
        rows["mdl_role_assignments"].append((int(str(course)) + 1000, STUDENT, user))

    def grade(user: int, points: float, item: int = 1) -> None:
        rows["mdl_grade_grades"].append((item, user, points))

    def log(action: str, target: str, user: int, when: int, role: int = 0, level: int = 50) -> None:
        rows["mdl_logstore_standard_log"].append((action, target, role, level, ENDED, user, when))

    def unenrolled(user: int, when: int, role: int = STUDENT, level: int = 50) -> None:
        log("created", "user_enrolment", user, BEGUN)
        log("assigned", "role", user, BEGUN, role, level)
        log("deleted", "user_enrolment", user, when)

    for user, points in ((1, 60), (2, 59)):  # at the pass mark, and below
        enrol(user, 10)
        grade(user, points)
    enrol(3, 10)  # completed, without a grade; enrolled from a set day on
    rows["mdl_user_enrolments"][-1] = (10, 3, 0, START, 0, BEGUN, BEGUN)
    rows["mdl_course_completions"] += [(ENDED, 3, AFTER), (ENDED, 2, None)]
    enrol(4, 10)  # never graded
    enrol(5, 10, status=1, changed=LEFT)  # suspended, with good grades so far
    grade(5, 90)
    enrol(6, 10, end=LEFT)  # the enrolment ran out
    enrol(7, 10, status=1, changed=LEFT)  # changed over to another way of enrolment
    enrol(7, 11)
    grade(7, 70)
    unenrolled(8, LEFT)  # the table has no trace
    unenrolled(9, AFTER)  # cleaned up after the end: the grade is in the history
    rows["mdl_grade_grades_history"] = [(1, 1, 9, 20), (2, 1, 9, 80), (3, 1, 9, None), (4, 3, 9, 0)]
    unenrolled(10, AFTER)  # the same, and failed
    unenrolled(11, LEFT)  # came back
    enrol(11, 10)
    grade(11, 75)
    unenrolled(12, LEFT)  # completed before leaving
    rows["mdl_course_completions"].append((ENDED, 12, LEFT))
    enrol(13, 10, status=1, changed=AFTER)  # suspended after the end
    grade(13, 10)
    rows["mdl_user_enrolments"].append((10, 20, 0, 0, 0, BEGUN, BEGUN))  # a teacher
    rows["mdl_role_assignments"].append((ENDED + 1000, TEACHER, 20))
    unenrolled(21, LEFT, TEACHER)
    enrol(14, 10, end=AFTER)
    grade(14, 65)
    rows["mdl_user_enrolments"].append((10, 22, 0, 0, 0, BEGUN, BEGUN))  # a student of something else
    rows["mdl_role_assignments"].append((7, STUDENT, 22))
    unenrolled(24, LEFT, level=70)
    rows["mdl_role_assignments"].append((ENDED + 1000, STUDENT, 23))  # never enrolled
    log("viewed", "course", 23, BEGUN)
    for user, points in ((1, 50), (2, 49)):  # half is enough
        enrol(user, 12)
        grade(user, points, 2)
    enrol(1, 13)
    enrol(1, 14)
    made = [f"CREATE TABLE {name} ({_columns(columns)})" for name, columns in TABLES.items()]
    made += [f"INSERT INTO {name} VALUES ({_values(row)})" for name, some in rows.items() for row in some]
    return made


def _columns(columns: str) -> str:
    return ", ".join(
        column if " " in column else f"{column} {POINTS.get(column, 'BIGINT')}" for column in columns.split(", ")
    )


def _values(row: tuple[object, ...]) -> str:
    return ", ".join("NULL" if value is None else repr(value) for value in row)


#: what the query selects: userid, courseid, outcome, last day, day of enrolment, first day of the run
EXPECTED = [
    *[(1, "passed", "", "2024-02-05"), (2, "failed", "", "2024-02-05"), (3, "passed", "", "2024-02-01")],
    *[(4, "failed", "", "2024-02-05"), (5, "withdrawn", "2024-03-10", "2024-02-05")],
    *[(6, "withdrawn", "2024-03-10", "2024-02-05"), (7, "passed", "", "2024-02-05")],
    *[(8, "withdrawn", "2024-03-10", "2024-02-05"), (9, "passed", "", "2024-02-05")],
    *[(10, "failed", "", "2024-02-05"), (11, "passed", "", "2024-02-05")],
    *[(12, "passed", "2024-03-10", "2024-02-05"), (13, "failed", "", "2024-02-05")],
    (14, "passed", "", "2024-02-05"),
]
HEADER = ("userid", "courseid", "outcome", "date", "registered", "start")
LINES = [
    *[(str(user), str(ENDED), outcome, date, since, "2024-02-01") for user, outcome, date, since in EXPECTED],
    *[
        (str(u), str(UNMARKED), outcome, "", "2024-02-05", "2024-02-01")
        for u, outcome in ((1, "passed"), (2, "failed"))
    ],
]
