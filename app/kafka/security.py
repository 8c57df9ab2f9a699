"""The settings of encryption and login at the brokers, checked for what belongs together."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from app.errors import ConfigError
from app.secrets import secret
from app.setting import setting

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
OAUTH = "OAUTHBEARER"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", OAUTH)

GROUP = "Encryption and login at the brokers"


@dataclass(frozen=True, slots=True)
class SecuritySettings:
    """How every client of Kafka connects and logs in. Files are read whenever a client is made."""

    security_protocol: str = setting(
        GROUP, "PLAINTEXT", "RISK_KAFKA_SECURITY_PROTOCOL", f"one of {', '.join(PROTOCOLS)}"
    )
    ca: str = setting(
        GROUP, "", "RISK_KAFKA_CA", "file with the certificates that may sign a broker's (PEM); empty: the system's"
    )
    cert: str = setting(
        GROUP, "", "RISK_KAFKA_CERT", "file with the worker's certificate (PEM), for brokers that want one"
    )
    key: str = setting(
        GROUP, "", "RISK_KAFKA_KEY", "file with its private key (PEM); empty: the key is in RISK_KAFKA_CERT"
    )
    key_password: str = setting(GROUP, "", "RISK_KAFKA_KEY_PASSWORD", "password of an encrypted key", secret=True)
    key_password_file: str = setting(GROUP, "", "RISK_KAFKA_KEY_PASSWORD_FILE", "file with that password")
    sasl_mechanism: str = setting(
        GROUP, "", "RISK_KAFKA_SASL_MECHANISM", f"one of {', '.join(MECHANISMS)}; needed with SASL_…"
    )
    user: str = setting(GROUP, "", "RISK_KAFKA_USER", "user of PLAIN and SCRAM")
    password: str = setting(GROUP, "", "RISK_KAFKA_PASSWORD", "password of PLAIN and SCRAM", secret=True)
    password_file: str = setting(GROUP, "", "RISK_KAFKA_PASSWORD_FILE", "file with that password")
    oauth_url: str = setting(
        GROUP, "", "RISK_KAFKA_OAUTH_URL", "token endpoint of OAUTHBEARER, asked with client credentials"
    )
    oauth_client_id: str = setting(GROUP, "", "RISK_KAFKA_OAUTH_CLIENT_ID", "client id for the token endpoint")
    oauth_client_secret: str = setting(
        GROUP, "", "RISK_KAFKA_OAUTH_CLIENT_SECRET", "client secret for the token endpoint", secret=True
    )
    oauth_client_secret_file: str = setting(
        GROUP, "", "RISK_KAFKA_OAUTH_CLIENT_SECRET_FILE", "file with that client secret"
    )
    oauth_scope: str = setting(GROUP, "", "RISK_KAFKA_OAUTH_SCOPE", "scope to ask the token endpoint for; empty: none")
    oauth_ca: str = setting(
        GROUP, "", "RISK_KAFKA_OAUTH_CA", "file with the certificates that may sign the token endpoint's (PEM)"
    )

    @property
    def encrypts(self) -> bool:
        """Whether connections use TLS."""
        return self.security_protocol.endswith("SSL")

    @property
    def logs_in(self) -> bool:
        """Whether connections log in with SASL."""
        return self.security_protocol.startswith("SASL_")

    def secret(self, name: str) -> str:
        """Return the secret in the field `name` or in the file that `name`_file names. Raises ConfigError."""
        variable = next(v for field, v in _variables(self) if field == name)
        return secret(variable, getattr(self, name), getattr(self, f"{name}_file"))

    def check_security(self) -> None:
        """Raise ConfigError, with one line that says what to set, for settings that do not fit each other.

        A setting that would not be used is an error: whoever sets a password expects a login.
        """
        _one_of("RISK_KAFKA_SECURITY_PROTOCOL", self.security_protocol, PROTOCOLS)
        if not self.encrypts:
            self._refuse("RISK_KAFKA_SECURITY_PROTOCOL=SSL or SASL_SSL", "ca", "cert", "key", *_pair("key_password"))
        if self.key and not self.cert:
            raise ConfigError("RISK_KAFKA_KEY: set RISK_KAFKA_CERT too, the certificate of this key")
        if not self.cert:
            self._refuse("RISK_KAFKA_CERT", *_pair("key_password"))
        login, oauth = ("user", *_pair("password")), ("oauth_url", "oauth_client_id", *_pair("oauth_client_secret"))
        if not self.logs_in:
            needed = "RISK_KAFKA_SECURITY_PROTOCOL=SASL_SSL or SASL_PLAINTEXT"
            self._refuse(needed, "sasl_mechanism", *login, *oauth, "oauth_scope", "oauth_ca")
            return
        _one_of("RISK_KAFKA_SASL_MECHANISM", self.sasl_mechanism, MECHANISMS)
        if self.sasl_mechanism == OAUTH:
            self._refuse("another RISK_KAFKA_SASL_MECHANISM", *login)
            self._require(*oauth)
            url = urlsplit(self.oauth_url)
            if url.scheme not in ("http", "https") or not url.hostname or "@" in url.netloc:
                raise ConfigError("RISK_KAFKA_OAUTH_URL: must be an http:// or https:// URL without user and password")
        else:
            self._refuse(f"RISK_KAFKA_SASL_MECHANISM={OAUTH}", *oauth, "oauth_scope", "oauth_ca")
            self._require(*login)

    def _refuse(self, needed: str, *names: str) -> None:
        for field, variable in _variables(self):
            if field in names and getattr(self, field):
                raise ConfigError(f"{variable} is set, but has no use without {needed}: set that, or unset it")

    def _require(self, *names: str) -> None:
        """Raise ConfigError for a setting that is empty; of a secret and its file, one must be set."""
        for field, variable in _variables(self):
            alternative = getattr(self, f"{field}_file", "")
            if field in names and not field.endswith("_file") and not getattr(self, field) and not alternative:
                more = f" or {variable}_FILE" if hasattr(self, f"{field}_file") else ""
                raise ConfigError(f"{variable}{more}: set it, RISK_KAFKA_SASL_MECHANISM={self.sasl_mechanism} needs it")


def _variables(settings: SecuritySettings) -> list[tuple[str, str]]:
    """List field and variable of each setting of this group."""
    own = SecuritySettings.__dataclass_fields__
    return [(name, str(own[name].metadata["variable"])) for name in own]


def _pair(name: str) -> tuple[str, str]:
    return name, f"{name}_file"


def _one_of(variable: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{variable}: {value!r} is none of {', '.join(allowed)}")
