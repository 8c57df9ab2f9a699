-- Moodle's log with the nine columns that the connector captures, as Moodle declares them; timecreated in milliseconds.
-- (Moodle's own table has twelve more, which stay in the database, and stores seconds: set RISK_TIME_UNIT=s.)
CREATE DATABASE IF NOT EXISTS demo;

CREATE TABLE IF NOT EXISTS demo.mdl_logstore_standard_log (
  id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  eventname VARCHAR(255) NOT NULL,
  userid BIGINT NOT NULL,
  courseid BIGINT,
  relateduserid BIGINT,
  anonymous TINYINT NOT NULL DEFAULT 0,
  timecreated BIGINT NOT NULL,
  origin VARCHAR(10),
  realuserid BIGINT
);

-- the rows of the original demo, in a course
INSERT INTO demo.mdl_logstore_standard_log (id, eventname, userid, courseid, timecreated, origin) VALUES
  (1, '\\core\\event\\course_viewed', 2, 5, 1561975200000, 'web'),
  (2, '\\core\\event\\course_viewed', 3, 5, 1561975200000, 'web'),
  (3, '\\core\\event\\course_viewed', 3, 5, 1561975300000, 'web');
