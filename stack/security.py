"""A Kafka that wants encryption, a login and rights: certificates made on the spot, users, and what clients need."""

from __future__ import annotations

import datetime
import hashlib
import os
import secrets
import socket
import ssl
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stack.errors import EXTRA, StackError, Unavailable
from stack.server import HOST, REQUEST_TIMEOUT_S

if TYPE_CHECKING:
    import trustme

#: who may do everything, and the principal of the nodes among themselves
ADMIN, NODE = "admin", "kafka"
#: a user without any right until ACLs give it some
USER = "risk"
#: ports beside that of mutual TLS: a login over TLS, and one in the clear
PORTS = ("sasl", "sasl_plain")
#: Kafka's numbers of the SCRAM mechanisms, their hashes
SCRAM = {"SCRAM-SHA-256": (1, "sha256"), "SCRAM-SHA-512": (2, "sha512")}
#: rounds of hashing a password: the least that Kafka accepts
ITERATIONS = 4096

_UTILITIES = "org.apache.kafka.common.security"
#: settings over those of stack/kafka.py. The listener BROKER wants a certificate; SASL and OPEN want a login
SETTINGS: Mapping[str, str | int] = {
    "listener.security.protocol.map": "BROKER:SSL,SASL:SASL_SSL,OPEN:SASL_PLAINTEXT,CONTROLLER:SSL",
    "listener.name.broker.ssl.client.auth": "required",
    "listener.name.controller.ssl.client.auth": "required",
    "ssl.principal.mapping.rules": r"RULE:^.*CN=([^,]+).*$/$1/,DEFAULT",
    "sasl.enabled.mechanisms": ",".join((*SCRAM, "PLAIN", "OAUTHBEARER")),
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "false",
    "super.users": f"User:{ADMIN};User:{NODE}",
    "ssl.keystore.type": "PEM",
    "ssl.truststore.type": "PEM",
}


class Security:
    """The certificates, passwords and settings in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def ca(self) -> Path:
        """The certificate that has signed all others."""
        return self.directory / "ca.pem"

    def certificate(self, name: str) -> Path:
        """Certificate and key of a user or of the nodes, in one file."""
        return self.directory / f"{name}.pem"

    def password_file(self, name: str) -> Path:
        """File with the password of a user."""
        return self.directory / f"{name}.password"

    def password(self, name: str) -> str:
        """Return the password of a user."""
        return self.password_file(name).read_text(encoding="ascii")

    def issue(self, name: str, file: str, *hosts: str, expired: bool = False) -> Path:
        """Return a new certificate with its key, for the principal `name` and `hosts` (default: this machine)."""
        import trustme

        authority = trustme.CA.from_pem(self.ca.read_bytes(), (self.directory / "ca.key").read_bytes())
        write_certificate(authority, self.certificate(file), name, *hosts, expired=expired)
        return self.certificate(file)

    def settings(self, ports: Mapping[str, int]) -> dict[str, str | int]:
        """Return the settings of a node, over those without security."""
        listeners = {"BROKER": "broker", "SASL": "sasl", "OPEN": "sasl_plain"}
        open_to_clients = [f"{name}://{HOST}:{ports[port]}" for name, port in listeners.items()]
        users = " ".join(f'user_{name}="{self.password(name)}"' for name in (ADMIN, USER))
        own: dict[str, str | int] = {
            **SETTINGS,
            "listeners": ",".join([*open_to_clients, f"CONTROLLER://{HOST}:{ports['controller']}"]),
            "advertised.listeners": ",".join(open_to_clients),
            "ssl.keystore.location": str(self.certificate(NODE)),
            "ssl.truststore.location": str(self.ca),
        }
        for listener in ("sasl", "open"):
            prefix = f"listener.name.{listener}"
            own[f"{prefix}.plain.sasl.jaas.config"] = f"{_UTILITIES}.plain.PlainLoginModule required {users};"
            for mechanism in SCRAM:
                own[f"{prefix}.{mechanism.lower()}.sasl.jaas.config"] = f"{_UTILITIES}.scram.ScramLoginModule required;"
            # tokens without a signature, which Kafka accepts for development only
            own[f"{prefix}.oauthbearer.sasl.jaas.config"] = (
                f'{_UTILITIES}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="{NODE}";'
            )
        return own

    def environment(self, ports: Mapping[str, int]) -> dict[str, str]:
        """Return the variables with which a worker logs in as USER."""
        return {
            "RISK_BROKER": f"{HOST}:{ports['sasl']}",
            "RISK_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "RISK_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "RISK_KAFKA_CA": str(self.ca),
            "RISK_KAFKA_USER": USER,
            "RISK_KAFKA_PASSWORD_FILE": str(self.password_file(USER)),
        }

    def connect(self, port: int) -> ssl.SSLSocket:
        """Connect to a node as ADMIN. Raises OSError."""
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(self.certificate(ADMIN))
        plain = socket.create_connection((HOST, port), timeout=REQUEST_TIMEOUT_S)
        try:
            return context.wrap_socket(plain, server_hostname=HOST)
        except OSError:
            plain.close()
            raise

    def create_users(self, port: int) -> None:
        """Create the SCRAM credentials of all users, or set them again. Raises StackError."""
        self.set_passwords(port, {name: self.password(name) for name in (ADMIN, USER)})

    def set_passwords(self, port: int, passwords: Mapping[str, str]) -> None:
        """Set the SCRAM credentials of users. Raises StackError."""
        errors: list[int] = []
        try:
            with self.connect(port) as connection, connection.makefile("rb") as reader:
                for mechanism in SCRAM:  # a request may name a user only once
                    body = _array([]) + _array([_upsertion(*user, mechanism) for user in passwords.items()])
                    # header version 2: api 51 (AlterUserScramCredentials), version 0, correlation, client id, tags
                    request = struct.pack(">hhih", 51, 0, 0, -1) + b"\0" + body + b"\0"
                    connection.sendall(struct.pack(">i", len(request)) + request)
                    (length,) = struct.unpack(">i", reader.read(4))
                    errors += scram_errors(reader.read(length))
        except (OSError, struct.error, IndexError) as error:
            raise StackError(f"Kafka does not take the users' passwords: {error!r}") from error
        if any(errors):
            raise StackError(f"Kafka does not take the users' passwords: error codes {errors}")


def security_of(directory: Path) -> Security | None:
    """Return the security of the nodes in `directory`, None if they have none."""
    made = directory / "security"
    return Security(made) if (made / "ca.pem").exists() else None


def make_security(directory: Path) -> Security:
    """Make certificates and passwords for the nodes in `directory`, unless there are some.

    Raises Unavailable if there is no `trustme`.
    """
    try:
        import trustme
    except ImportError as error:
        raise Unavailable(f"no certificates ({error}): {EXTRA}") from error
    security = Security(directory / "security")
    if security.ca.exists():
        return security
    security.directory.mkdir(parents=True, mode=0o700)
    authority = trustme.CA()
    for name in (NODE, ADMIN, USER):
        write_certificate(authority, security.certificate(name), name)
    for name in (ADMIN, USER):
        write_private(security.password_file(name), secrets.token_urlsafe(18).encode())
    write_private(security.directory / "ca.key", authority.private_key_pem.bytes())
    authority.cert_pem.write_to_path(str(security.ca))  # last: marks that the rest is complete
    return security


def write_certificate(authority: trustme.CA, path: Path, name: str, *hosts: str, expired: bool = False) -> None:
    """Write certificate and key of `name` to one file, for `hosts` (default: this machine)."""
    from cryptography.hazmat.primitives import serialization

    end = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1) if expired else None
    leaf = authority.issue_cert(*(hosts or (HOST, "localhost")), common_name=name, not_after=end)
    # Kafka reads keys in PKCS 8 only
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    form = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    write_private(path, pem + b"".join(blob.bytes() for blob in leaf.cert_chain_pems))


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only this user may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _upsertion(name: str, password: str, mechanism: str) -> bytes:
    number, digest = SCRAM[mechanism]
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac(digest, password.encode(), salt, ITERATIONS)
    return _compact(name.encode()) + struct.pack(">bi", number, ITERATIONS) + _compact(salt) + _compact(salted) + b"\0"


def _array(entries: Sequence[bytes]) -> bytes:
    return bytes([len(entries) + 1]) + b"".join(entries)


def _compact(content: bytes) -> bytes:
    assert len(content) < 127
    return bytes([len(content) + 1]) + content


def scram_errors(answer: bytes) -> list[int]:
    """Return the error codes of an answer to AlterUserScramCredentials."""
    at, errors = 4 + 1 + 4, []  # correlation, tags, throttle time
    count = answer[at] - 1
    at += 1
    for _ in range(count):
        at += answer[at]  # length + 1 of the name, which follows
        errors.append(struct.unpack_from(">h", answer, at)[0])
        at += 2
        at += max(1, answer[at])  # the message, which may be null
        at += 1  # tags
    return errors
