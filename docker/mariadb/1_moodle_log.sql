-- Moodle's log as in the original demo: the four columns that the pipeline reads, timecreated in milliseconds.
-- (Moodle's own table has 21 columns and stores seconds: set RISK_TIME_UNIT=s.)
CREATE DATABASE IF NOT EXISTS demo;

CREATE TABLE IF NOT EXISTS demo.mdl_logstore_standard_log (
  id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  eventname VARCHAR(255) NOT NULL,
  userid BIGINT NOT NULL,
  timecreated BIGINT NOT NULL
);

INSERT INTO demo.mdl_logstore_standard_log (id, eventname, userid, timecreated) VALUES
  (1, '\\core\\event\\course_viewed', 2, 1561975200000),
  (2, '\\core\\event\\course_viewed', 3, 1561975200000),
  (3, '\\core\\event\\course_viewed', 3, 1561975300000);
