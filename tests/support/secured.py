"""A broker with TLS, logins and an authorizer: who may log in how, and the rights of a worker."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aiokafka.protocol.admin import CreateAclsRequest

import stack
from app.kafka import acls, topics
from app.kafka.clients import new_admin
from app.settings import Settings
from app.upstream.aiokafka import send_request
from stack.life import instance_of
from stack.process_spec import ServerFiles
from stack.security import ADMIN, USER, Security, security_of
from tests.support.cluster import Deployment, run_async

#: Kafka's numbers of resource types, operations and permissions
TOPIC, GROUP, TRANSACTIONAL, CREATE, ALLOW = 2, 3, 5, 5, 3
#: Kafka's numbers of pattern types, and those that are not literal by type of resource
LITERAL, PATTERNS = 3, {TRANSACTIONAL: 4}

#: resource type, name, operation; and how the worker calls the missing right
Grant = tuple[int, str, int, str]


@dataclass(frozen=True)
class Secured:
    """The broker, and variables for each way to connect to it."""

    servers: stack.Environment

    @property
    def security(self) -> Security:
        made = security_of(self.servers.directory)
        assert made is not None
        return made

    def port(self, purpose: str) -> int:
        """Return the port for mutual TLS (broker), a login over TLS (sasl), or a login in the clear (sasl_plain)."""
        return instance_of(ServerFiles(self.servers.directory, "kafka")).ports[purpose]

    def login(self, mechanism: str, user: str = USER, port: str = "sasl") -> dict[str, str]:
        """Return the variables of a login with a password."""
        own = {
            "RISK_BROKER": f"127.0.0.1:{self.port(port)}",
            "RISK_SCHEMA_REGISTRY": self.servers.registry,
            "RISK_KAFKA_SASL_MECHANISM": mechanism,
            "RISK_KAFKA_USER": user,
            "RISK_KAFKA_PASSWORD_FILE": str(self.security.password_file(user)),
        }
        if port == "sasl_plain":
            return own | {"RISK_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"}
        return own | {"RISK_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "RISK_KAFKA_CA": str(self.security.ca)}

    def token_login(self, url: str, client: str, secret: Path) -> dict[str, str]:
        """Return the variables of a login with a token."""
        return {
            "RISK_BROKER": f"127.0.0.1:{self.port('sasl')}",
            "RISK_SCHEMA_REGISTRY": self.servers.registry,
            "RISK_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "RISK_KAFKA_CA": str(self.security.ca),
            "RISK_KAFKA_SASL_MECHANISM": "OAUTHBEARER",
            "RISK_KAFKA_OAUTH_URL": url,
            "RISK_KAFKA_OAUTH_CLIENT_ID": client,
            "RISK_KAFKA_OAUTH_CLIENT_SECRET_FILE": str(secret),
        }

    def certificate(self, user: str = USER) -> dict[str, str]:
        """Return the variables of a client that shows a certificate."""
        return {
            "RISK_BROKER": f"127.0.0.1:{self.port('broker')}",
            "RISK_SCHEMA_REGISTRY": self.servers.registry,
            "RISK_KAFKA_SECURITY_PROTOCOL": "SSL",
            "RISK_KAFKA_CA": str(self.security.ca),
            "RISK_KAFKA_CERT": str(self.security.certificate(user)),
        }

    def deployment(self, directory: Path) -> Deployment:
        """Return a deployment whose clients are the administrator's."""
        return as_worker(Deployment.new(self.servers, directory, RISK_SESSION_TIMEOUT="10"), self.certificate(ADMIN))


def as_worker(deployment: Deployment, login: Mapping[str, str]) -> Deployment:
    """Return the same deployment for a worker that logs in as `login`."""
    kept = {name: value for name, value in deployment.variables.items() if not name.startswith("RISK_KAFKA_")}
    return replace(deployment, variables={**kept, **login})


def grants(settings: Settings, partitions: int) -> list[Grant]:
    """List the rights that docs/operations.md grants a worker which creates its topics itself."""
    names = settings.topic_names
    prefix = acls.id_prefix(settings.app_id)
    on_topics = acls.needed(names, scoring=True, risk=True)
    return [
        *((TOPIC, topic, int(right), f"{right} on topic {topic}") for topic in on_topics for right in on_topics[topic]),
        *((TOPIC, topic.name, CREATE, f"Create topic {topic.name}") for topic in topics.wanted(names, partitions)),
        (GROUP, settings.app_id, int(acls.Right.READ), f"Read on group {settings.app_id}"),
        (TRANSACTIONAL, prefix, int(acls.Right.WRITE), f"Write on transactional ids with the prefix {prefix}"),
    ]


def page_grants(settings: Settings) -> list[Grant]:
    """List the rights that docs/operations.md grants a page which creates its topics itself."""
    names = settings.topic_names
    on_topics = acls.of_page(names)
    return [
        *((TOPIC, topic, int(right), f"{right} on topic {topic}") for topic in on_topics for right in on_topics[topic]),
        *((TOPIC, topic.name, CREATE, f"Create topic {topic.name}") for topic in topics.of_page(names, 30)),
    ]


def grant(administrator: Settings, given: Sequence[Grant], user: str = USER) -> None:
    """Give rights to a user."""

    async def create() -> None:
        admin = new_admin(administrator)
        await admin.start()
        try:
            for kind, name, operation, _ in given:
                request = CreateAclsRequest(
                    kind, name, PATTERNS.get(kind, LITERAL), f"User:{user}", "*", operation, ALLOW
                )
                answer = await send_request(admin, request)
                assert [code for code, *_ in answer.creation_responses] == [0]
        finally:
            await admin.close()

    run_async(create())


def started(directory: Path) -> Iterator[Secured]:
    """Start the broker and a registry, and stop them at the end."""
    yield Secured(stack.up(directory, secure=True, owner_pid=os.getpid()))
    stack.down(directory)


def unsecured_token(name: str, lifetime_s: int, now_s: float) -> str:
    """Return a JSON web token without signature for user `name`."""
    claims = f'{{"sub":"{name}","iat":{int(now_s)},"exp":{int(now_s) + lifetime_s}}}'
    head, body = (base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in ('{"alg":"none"}', claims))
    return f"{head}.{body}."
