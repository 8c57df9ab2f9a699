#!/bin/sh
# The page-user service of docker-compose.yml: the first user of the advisers' page, who sees all courses.
# A user that exists is left as it is, with the password that it has by now.
set -eu
if [ -f "$RISK_PAGE_USERS" ] && faust -A app page-user list | grep -qF -- "$PAGE_USER  "; then
  echo "user $PAGE_USER exists"
else
  printf '%s\n' "$PAGE_PASSWORD" | faust -A app page-user add "$PAGE_USER" --all
fi
