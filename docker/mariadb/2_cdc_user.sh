#!/bin/bash
# The user Debezium follows the binlog as: it may read the log's database, and change nothing anywhere. The binlog
# itself hears nothing of it, nor of its password.
# no `set -u`: where the executable bit got lost, the image's own script reads this one into itself
set -eo pipefail

# as SQL text between single quotes
quoted() { printf '%s' "$1" | sed "s/\\\\/\\\\\\\\/g; s/'/''/g"; }

user=$(quoted "${CDC_USER:?}")
password=$(quoted "${CDC_PASSWORD:?}")
MYSQL_PWD=$MARIADB_ROOT_PASSWORD mariadb --protocol=socket --user=root <<SQL
SET SESSION sql_log_bin = 0;
CREATE USER IF NOT EXISTS '$user'@'%' IDENTIFIED BY '$password';
GRANT RELOAD, SHOW DATABASES, REPLICATION SLAVE, BINLOG MONITOR, SLAVE MONITOR ON *.* TO '$user'@'%';
GRANT SELECT, LOCK TABLES ON demo.* TO '$user'@'%';
SQL
