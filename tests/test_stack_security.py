"""Certificates, passwords and settings of a Kafka that wants a login; tests/test_secured.py starts one."""

from __future__ import annotations

import ssl
import struct

import pytest

import stack
from stack import kafka
from stack.security import ADMIN, NODE, PORTS, USER, Security, make_security, scram_errors, security_of
from stack.server import Instance

PORT_NUMBERS = {"broker": 1, "controller": 2, **{name: 3 + i for i, name in enumerate(PORTS)}}


@pytest.fixture(scope="module")
def security(tmp_path_factory: pytest.TempPathFactory) -> Security:
    directory = tmp_path_factory.mktemp("servers")
    assert security_of(directory) is None
    made = make_security(directory)
    assert make_security(directory).password(USER) == made.password(USER), "made once"
    return made


def test_keys_and_passwords_are_readable_by_this_user_only(security):
    secret = [security.password_file(ADMIN), security.password_file(USER), security.directory / "ca.key"]
    for path in (*secret, *(security.certificate(name) for name in (NODE, ADMIN, USER))):
        assert path.stat().st_mode & 0o777 == 0o600
    assert security.directory.stat().st_mode & 0o777 == 0o700
    assert security.password(USER) != security.password(ADMIN)


def test_certificates_belong_to_the_authority(security):
    context = ssl.create_default_context(cafile=str(security.ca))
    for name in (NODE, ADMIN, USER):
        context.load_cert_chain(security.certificate(name))
    assert b"BEGIN PRIVATE KEY" in security.certificate(NODE).read_bytes(), "Kafka reads PKCS 8 only"


def test_a_node_with_security_has_its_listeners_and_rights(security):
    home = security.directory.parent / "kafka"
    made = kafka.settings(Instance(home, PORT_NUMBERS))
    assert made["listener.security.protocol.map"] == "BROKER:SSL,SASL:SASL_SSL,OPEN:SASL_PLAINTEXT,CONTROLLER:SSL"
    assert str(made["listeners"]).count("127.0.0.1:") == 4
    assert made["allow.everyone.if.no.acl.found"] == "false"
    assert "authorizer.class.name" not in kafka.settings(Instance(home.parent / "no" / "kafka", PORT_NUMBERS))


def test_a_worker_gets_files_instead_of_secrets(security):
    variables = kafka.environment(Instance(security.directory.parent / "kafka", PORT_NUMBERS))
    assert variables["RISK_BROKER"] == f"127.0.0.1:{PORT_NUMBERS['sasl']}"
    assert security.password(USER) not in "".join(variables.values())
    environment = stack.Environment(security.directory.parent, variables | {"RISK_SCHEMA_REGISTRY": "http://r"})
    assert environment.settings == {**variables, "RISK_SCHEMA_REGISTRY": "http://r"}


def test_only_a_single_node_without_connect_can_be_secure(tmp_path):
    for more in ({"cdc": True}, {"brokers": 3}):
        with pytest.raises(stack.StackError, match="--secure is for one node without Kafka Connect"):
            stack.up(tmp_path, secure=True, **more)


def test_errors_of_single_users_are_read():
    users = b"".join(
        bytes([len(name) + 1]) + name + struct.pack(">h", code) + text + b"\0"
        for name, code, text in ((b"a", 0, b"\0"), (b"bob", 92, b"\4bad"))
    )
    assert scram_errors(b"\0\0\0\0" + b"\0" + b"\0\0\0\0" + b"\3" + users + b"\0") == [0, 92]
