"""The commands of the page: `faust -A app page`, `faust -A app page-user`."""
