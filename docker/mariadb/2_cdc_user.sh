#!/bin/bash
# Creates the user with which Debezium reads the binlog: it can read the log's database and cannot write anywhere.
# The statements, and so the password, are not written to the binlog.
# No `set -u`: if the file is not executable, the image's entrypoint sources it.
set -eo pipefail

# escape for an SQL string in single quotes
quoted() { printf '%s' "$1" | sed "s/\\\\/\\\\\\\\/g; s/'/''/g"; }

user=$(quoted "${CDC_USER:?}")
password=$(quoted "${CDC_PASSWORD:?}")
MYSQL_PWD=$MARIADB_ROOT_PASSWORD mariadb --protocol=socket --user=root <<SQL
SET SESSION sql_log_bin = 0;
CREATE USER IF NOT EXISTS '$user'@'%' IDENTIFIED BY '$password';
GRANT RELOAD, SHOW DATABASES, REPLICATION SLAVE, BINLOG MONITOR, SLAVE MONITOR ON *.* TO '$user'@'%';
GRANT SELECT, LOCK TABLES ON demo.* TO '$user'@'%';
SQL
