"""The tables of the page's database.

All of it is derived from topics, except the logins: a file of another version is deleted and built again.

INDEXES and TRIGGERS are what lists need: they are dropped while the topics are read for the first time, and made at its
end, which is several times faster. Triggers keep numbers of entries, so that few lists count rows.
"""

from __future__ import annotations

#: raised with every change of the tables; a file of another version is built again
VERSION = 1
#: the course of entries of RISK_COURSES=site, whose rows have COURSEID null
SITE = -1
#: number of days that visit_days and submission_days reach back
DAYS = 60

#: day: days since 1970-01-01 in RISK_TIMEZONE; at: epoch milliseconds; risk: in 1e-4, NULL where there is none
TABLES = """
-- offset of the next record of each partition; written with what the records before it say
CREATE TABLE position (
  topic TEXT NOT NULL, partition INTEGER NOT NULL, next INTEGER NOT NULL,
  PRIMARY KEY (topic, partition)
) WITHOUT ROWID;

-- newest_event (at of the newest event), latest_risk (the latest as_of), today (the day of the newest event, but at
-- most one day after the latest risk), revision (of the newest change of an entry),
-- swept (the day as of which every week_ago is right and what is too old is gone), origin (of which topics this is)
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;

-- the latest row of MOODLE_RISK of each student and course, and the state of its case
CREATE TABLE entry (
  student INTEGER NOT NULL, course INTEGER NOT NULL,
  risk INTEGER, band INTEGER NOT NULL,            -- models.assessment.Band
  alert INTEGER NOT NULL, since INTEGER,          -- whether an alert is open; the day it was opened
  reasons TEXT NOT NULL,                          -- JSON, as in the topic
  cohort_n INTEGER NOT NULL, as_of INTEGER NOT NULL, at INTEGER NOT NULL, model TEXT NOT NULL,
  visit_days INTEGER NOT NULL, submission_days INTEGER NOT NULL, -- bit i: as_of - i
  last_visit INTEGER,                             -- day; NULL: longer ago than visit_days reaches
  week_ago INTEGER,                               -- risk seven days before today; NULL: none, or unknown
  change INTEGER AS (risk - week_ago) VIRTUAL,    -- since then
  rank INTEGER NOT NULL,                          -- whom to contact first: descending
  revision INTEGER NOT NULL,                      -- of the database when this entry last changed
  state INTEGER NOT NULL DEFAULT 0,               -- of the case: page.cases.actions.State
  assignee TEXT,                                  -- user to whom the case is assigned
  case_version INTEGER NOT NULL DEFAULT 0,        -- number of actions so far
  acted_at INTEGER,                               -- time of the latest action
  handled INTEGER,                                -- since of the alert for which the state was set; NULL: of none
  PRIMARY KEY (student, course)
);

-- the last row of each as_of; of days before those that are kept only the last, which holds on the first of them
CREATE TABLE history (
  student INTEGER NOT NULL, course INTEGER NOT NULL, day INTEGER NOT NULL,
  risk INTEGER, band INTEGER NOT NULL,
  PRIMARY KEY (student, course, day)
) WITHOUT ROWID;

-- rows of MOODLE_RISK_ALERTS
CREATE TABLE alert (
  offset INTEGER PRIMARY KEY,
  student INTEGER NOT NULL, course INTEGER NOT NULL,
  is_opening INTEGER NOT NULL, day INTEGER NOT NULL, opened INTEGER NOT NULL, why TEXT NOT NULL,
  risk INTEGER, reasons TEXT NOT NULL
);
CREATE INDEX alert_by_student ON alert (student, course, day);
CREATE INDEX alert_by_course ON alert (course, day);

-- rows of MOODLE_LOGS_SESSIONS_PER_15MINS, over all courses
CREATE TABLE session (
  student INTEGER NOT NULL, "end" INTEGER NOT NULL, start INTEGER NOT NULL, -- at
  activities INTEGER NOT NULL,
  PRIMARY KEY (student, "end", start)
) WITHOUT ROWID;

-- records of <app>-cases that were accepted, in the order of the topic
CREATE TABLE action (
  offset INTEGER PRIMARY KEY,
  id TEXT NOT NULL,                               -- chosen by the form, so that a repetition is recognised
  student INTEGER NOT NULL, course INTEGER NOT NULL,
  version INTEGER NOT NULL,                       -- of the case, after the action: 1, 2, …
  kind TEXT NOT NULL,                             -- page.cases.actions.Kind
  user TEXT NOT NULL, at INTEGER NOT NULL, note TEXT NOT NULL,
  assignee TEXT,
  since INTEGER                                   -- of the alert that was open for who acted; NULL: none was
);
CREATE UNIQUE INDEX action_by_case ON action (student, course, version);
CREATE UNIQUE INDEX action_by_id ON action (student, course, id);

-- dead letters by topic and reason
CREATE TABLE dead_letter (
  topic TEXT NOT NULL, reason TEXT NOT NULL,
  number INTEGER NOT NULL, newest INTEGER NOT NULL, detail TEXT NOT NULL, -- at and detail of the newest
  PRIMARY KEY (topic, reason)
) WITHOUT ROWID;

-- records that could not be read, by topic and reason
CREATE TABLE unreadable (
  topic TEXT NOT NULL, reason TEXT NOT NULL,
  number INTEGER NOT NULL, newest INTEGER NOT NULL, -- offset of the newest
  PRIMARY KEY (topic, reason)
) WITHOUT ROWID;

-- number of entries by what lists are filtered by; kept by triggers
CREATE TABLE tally (
  course INTEGER NOT NULL, band INTEGER NOT NULL, state INTEGER NOT NULL, alert INTEGER NOT NULL,
  number INTEGER NOT NULL,
  PRIMARY KEY (course, band, state, alert)
) WITHOUT ROWID;

-- number of entries by the day of the last visit, -1000000 for none; kept by triggers
CREATE TABLE visit_tally (
  course INTEGER NOT NULL, last_visit INTEGER NOT NULL, number INTEGER NOT NULL,
  PRIMARY KEY (course, last_visit)
) WITHOUT ROWID;

-- logins; only the hash of a session's secret is kept
CREATE TABLE login (
  hash BLOB PRIMARY KEY, user TEXT NOT NULL, csrf TEXT NOT NULL, expires INTEGER NOT NULL
) WITHOUT ROWID;
"""

#: what an index of entries holds so that a filter reads nothing else
_FILTERED = "band, state, alert, last_visit, assignee"

INDEXES = {
    "entry_by_rank": f"ON entry (rank DESC, student, course, {_FILTERED})",
    "entry_by_risk": f"ON entry (risk DESC, student, course, {_FILTERED})",
    "entry_by_change": f"ON entry (change DESC, student, course, {_FILTERED})",
    "entry_by_visit": "ON entry (last_visit, student, course, band, state, alert, assignee)",
    "entry_by_student": "ON entry (student, course, band, state, alert, last_visit, assignee)",
    "entry_by_course": f"ON entry (course, rank DESC, student, {_FILTERED})",
    "entry_by_revision": "ON entry (revision, course, student)",
    "entry_by_case": "ON entry (course, state, alert, since, handled) WHERE case_version > 0",
    "entry_by_assignee": "ON entry (assignee) WHERE assignee IS NOT NULL",
}

#: last_visit of entries that have none, in visit_tally
NO_VISIT = -1_000_000

_ADD = """
  INSERT INTO tally VALUES (NEW.course, NEW.band, NEW.state, NEW.alert, 1)
    ON CONFLICT (course, band, state, alert) DO UPDATE SET number = number + 1;"""
_SUBTRACT = """
  UPDATE tally SET number = number - 1
    WHERE course = OLD.course AND band = OLD.band AND state = OLD.state AND alert = OLD.alert;"""
_ADD_VISIT = f"""
  INSERT INTO visit_tally VALUES (NEW.course, coalesce(NEW.last_visit, {NO_VISIT}), 1)
    ON CONFLICT (course, last_visit) DO UPDATE SET number = number + 1;"""
_SUBTRACT_VISIT = f"""
  UPDATE visit_tally SET number = number - 1
    WHERE course = OLD.course AND last_visit = coalesce(OLD.last_visit, {NO_VISIT});
  DELETE FROM visit_tally
    WHERE course = OLD.course AND last_visit = coalesce(OLD.last_visit, {NO_VISIT}) AND number = 0;"""

TRIGGERS = {
    "tally_insert": f"AFTER INSERT ON entry BEGIN {_ADD}{_ADD_VISIT} END",
    "tally_delete": f"AFTER DELETE ON entry BEGIN {_SUBTRACT}{_SUBTRACT_VISIT} END",
    "tally_update": "AFTER UPDATE OF course, band, state, alert ON entry "
    "WHEN (OLD.course, OLD.band, OLD.state, OLD.alert) IS NOT (NEW.course, NEW.band, NEW.state, NEW.alert) "
    f"BEGIN {_SUBTRACT}{_ADD} END",
    "tally_visit": "AFTER UPDATE OF course, last_visit ON entry "
    "WHEN (OLD.course, OLD.last_visit) IS NOT (NEW.course, NEW.last_visit) "
    f"BEGIN {_SUBTRACT_VISIT}{_ADD_VISIT} END",
}

#: tables that are derived from topics
DERIVED = (
    "position", "meta", "entry", "history", "alert", "session", "action", "dead_letter", "unreadable", "tally",
    "visit_tally",
)  # fmt: skip
