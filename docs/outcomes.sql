-- How students' courses ended, from Moodle's own tables: the file that `faust -A app train --outcomes` reads.
--
-- For MariaDB 10.2 or newer and MySQL 8, with Moodle 3.9 or newer and the table prefix mdl_. It only reads, and selects
-- no names. docs/outcomes.md says how to run it, what to adapt, and what Moodle cannot know. On PostgreSQL, replace
-- FROM_UNIXTIME(x, '%Y-%m-%d') by to_char(to_timestamp(x), 'YYYY-MM-DD'), and UNIX_TIMESTAMP() by
-- extract(epoch FROM now()).
WITH
-- the runs to export: those that have ended
course AS (
  SELECT id, startdate, enddate
  FROM mdl_course
  WHERE enddate > 0 AND enddate < UNIX_TIMESTAMP()
),
-- everybody who is or was a student of a course: a role that was taken away is only in the log
student AS (
  SELECT context.instanceid AS courseid, assigned.userid
  FROM mdl_role_assignments assigned
  JOIN mdl_context context ON context.id = assigned.contextid AND context.contextlevel = 50
  JOIN mdl_role role ON role.id = assigned.roleid AND role.archetype = 'student'
  UNION
  SELECT log.courseid, log.relateduserid
  FROM mdl_logstore_standard_log log
  JOIN mdl_role role ON role.id = log.objectid AND role.archetype = 'student'
  WHERE log.target = 'role' AND log.action = 'assigned' AND log.contextlevel = 50
),
-- enrolments that exist. departed: when one was suspended or ran out before the course ended, else null
enrolment AS (
  SELECT enrol.courseid, place.userid,
    CASE WHEN place.timestart > 0 THEN place.timestart ELSE place.timecreated END AS registered,
    CASE
      WHEN place.status = 1 AND place.timemodified < course.enddate THEN place.timemodified
      WHEN place.timeend > 0 AND place.timeend < course.enddate THEN place.timeend
    END AS departed
  FROM mdl_user_enrolments place
  JOIN mdl_enrol enrol ON enrol.id = place.enrolid
  JOIN course ON course.id = enrol.courseid
),
-- one row for each student who has an enrolment; one that lasted to the end outweighs others that did not
present AS (
  SELECT courseid, userid, MIN(registered) AS registered,
    CASE WHEN COUNT(*) = COUNT(departed) THEN MAX(departed) END AS departed
  FROM enrolment
  GROUP BY courseid, userid
),
-- enrolments that were deleted, from the log: the table has no trace of them
deleted AS (
  SELECT log.courseid, log.relateduserid AS userid,
    MIN(CASE WHEN log.action = 'created' THEN log.timecreated END) AS registered,
    MAX(CASE WHEN log.action = 'deleted' THEN log.timecreated END) AS departed
  FROM mdl_logstore_standard_log log
  WHERE log.target = 'user_enrolment' AND log.action IN ('created', 'deleted')
  GROUP BY log.courseid, log.relateduserid
),
membership AS (
  SELECT student.courseid, student.userid, course.startdate, course.enddate,
    COALESCE(deleted.registered, present.registered) AS registered,
    CASE
      WHEN present.userid IS NOT NULL THEN present.departed
      WHEN deleted.departed < course.enddate THEN deleted.departed
    END AS departed
  FROM student
  JOIN course ON course.id = student.courseid
  LEFT JOIN present ON present.courseid = student.courseid AND present.userid = student.userid
  LEFT JOIN deleted ON deleted.courseid = student.courseid AND deleted.userid = student.userid
  WHERE present.userid IS NOT NULL OR deleted.departed IS NOT NULL
),
-- the course total; an unenrolled student's is only in the history. Where a course has no pass mark, half is enough
result AS (
  SELECT membership.*,
    CASE WHEN completion.timecompleted > 0 THEN 1 ELSE 0 END AS completed,
    CASE
      WHEN COALESCE(grade.finalgrade, (
        SELECT past.finalgrade FROM mdl_grade_grades_history past
        WHERE past.itemid = item.id AND past.userid = membership.userid AND past.finalgrade IS NOT NULL
        ORDER BY past.id DESC LIMIT 1
      )) >= CASE WHEN item.gradepass > 0 THEN item.gradepass ELSE item.grademax / 2 END THEN 1
      ELSE 0
    END AS graded
  FROM membership
  LEFT JOIN mdl_course_completions completion
    ON completion.course = membership.courseid AND completion.userid = membership.userid
  LEFT JOIN mdl_grade_items item ON item.courseid = membership.courseid AND item.itemtype = 'course'
  LEFT JOIN mdl_grade_grades grade ON grade.itemid = item.id AND grade.userid = membership.userid
)
SELECT userid, courseid,
  CASE
    WHEN completed = 1 THEN 'passed'
    -- a grade of somebody who left early says nothing yet
    WHEN departed IS NOT NULL THEN 'withdrawn'
    WHEN graded = 1 THEN 'passed'
    ELSE 'failed'
  END AS outcome,
  COALESCE(FROM_UNIXTIME(departed, '%Y-%m-%d'), '') AS date,
  COALESCE(FROM_UNIXTIME(registered, '%Y-%m-%d'), '') AS registered,
  COALESCE(FROM_UNIXTIME(startdate, '%Y-%m-%d'), '') AS start
FROM result
ORDER BY courseid, userid;
