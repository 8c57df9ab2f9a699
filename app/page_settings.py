"""The settings of the advisers' page: where it is, who gets in, what it keeps."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from app.errors import ConfigError
from app.risk_settings import RiskSettings
from app.setting import parts, setting

YesNo = Literal["yes", "no"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

GROUP = "Advisers' page"
#: the characters of a header's name (RFC 9110, token), without those that only confuse
_HEADER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}")


@dataclass(frozen=True, slots=True)
class PageSettings(RiskSettings):
    """How the page is served. Nothing of it affects the worker."""

    page_bind: str = setting(
        GROUP,
        "127.0.0.1",
        "RISK_PAGE_BIND",
        "address of the page, IPv4 or IPv6; one that is not this machine's own needs RISK_PAGE_USERS",
    )
    page_port: int = setting(GROUP, 6080, "RISK_PAGE_PORT", "port of the page")
    page_hosts: str = setting(
        GROUP, "", "RISK_PAGE_HOSTS", "host names, separated by commas, by which the page may be requested"
    )
    page_datadir: Path = setting(
        GROUP, Path("moodle-risk-page"), "RISK_PAGE_DATADIR", "directory of the page's database, one for each page"
    )
    page_history_days: int = setting(
        GROUP, 120, "RISK_PAGE_HISTORY_DAYS", "how long sessions and former risks are kept [days]"
    )
    page_users: str = setting(
        GROUP, "", "RISK_PAGE_USERS", "path of the file with the users, which `faust -A app page-user` writes"
    )
    page_user_header: str = setting(
        GROUP,
        "",
        "RISK_PAGE_USER_HEADER",
        "request header in which a proxy (single sign-on) names the user, instead of a login on the page",
    )
    page_proxies: str = setting(
        GROUP,
        "",
        "RISK_PAGE_PROXIES",
        "proxies that are believed who asks, from where and whether over TLS, address or network[,…]",
    )
    page_ids_in_url: YesNo = setting(
        GROUP,
        "no",
        "RISK_PAGE_IDS_IN_URL",
        "yes: URLs name students by their ids; no: by codes that only the page can read",
    )
    page_audit_days: int = setting(
        GROUP, 365, "RISK_PAGE_AUDIT_DAYS", "how long the audit of who looked at whom is kept [days]"
    )
    page_login_hours: float = setting(GROUP, 12.0, "RISK_PAGE_LOGIN_HOURS", "time after which users log in again [h]")
    page_stale_hours: float = setting(
        GROUP, 24.0, "RISK_PAGE_STALE_HOURS", "age of the newest event from which on the page warns [h]; 0: never"
    )
    page_outcomes: str = setting(
        GROUP, "", "RISK_PAGE_OUTCOMES", "path of a CSV student,course,outcome to show beside the risk; for demos only"
    )
    page_report: str = setting(
        GROUP,
        "",
        "RISK_PAGE_REPORT",
        "path of the report.json of the model in use, which `faust -A app evaluate` writes; empty: the shipped model's",
    )
    moodle_url: str = setting(
        GROUP, "", "RISK_MOODLE_URL", "URL of Moodle, for links to profiles and messages; empty: no links"
    )

    @property
    def page_address(self) -> str:
        """The address of the page; of IPv6 without brackets."""
        return self.page_bind.strip("[]")

    @property
    def page_names(self) -> list[str]:
        """The host names by which the page may be requested, besides this machine's and addresses."""
        return [*parts(self.page_address), *parts(self.page_hosts)]

    @property
    def page_networks(self) -> tuple[Network, ...]:
        """The networks of the proxies that are believed."""
        return tuple(ipaddress.ip_network(part) for part in parts(self.page_proxies))

    @property
    def page_is_open(self) -> bool:
        """Whether nobody is asked to log in."""
        return not self.page_users and not self.page_user_header

    @property
    def ids_in_url(self) -> bool:
        """Whether URLs name students by their ids."""
        return self.page_ids_in_url == "yes"

    def check_page(self) -> None:
        """Raise ConfigError, with one line, for a setting of this group that cannot be used."""
        if self.page_ids_in_url not in ("yes", "no"):
            raise ConfigError(f"RISK_PAGE_IDS_IN_URL: {self.page_ids_in_url!r} is none of yes, no")
        if not 0 < self.page_port < 65536:
            raise ConfigError(f"RISK_PAGE_PORT: {self.page_port} is not a port (1 to 65535)")
        if not self.page_address:
            raise ConfigError("RISK_PAGE_BIND is empty: set an address, e.g. 127.0.0.1")
        for variable, days in (
            ("RISK_PAGE_HISTORY_DAYS", self.page_history_days),
            ("RISK_PAGE_AUDIT_DAYS", self.page_audit_days),
        ):
            if not 7 <= days <= 36_500:
                raise ConfigError(f"{variable}: {days} is not within 7 to 36500 days")
        if not 0.1 <= self.page_login_hours <= 744:
            raise ConfigError(f"RISK_PAGE_LOGIN_HOURS: {self.page_login_hours:g} is not within 0.1 to 744 hours")
        if not 0 <= self.page_stale_hours <= 87_600:
            raise ConfigError(f"RISK_PAGE_STALE_HOURS: {self.page_stale_hours:g} is not within 0 to 87600 hours")
        self._check_proxies()
        self._check_moodle()

    def _check_proxies(self) -> None:
        for part in parts(self.page_proxies):
            try:
                network = ipaddress.ip_network(part)
            except ValueError:
                raise ConfigError(
                    f"RISK_PAGE_PROXIES: {part!r} is no address or network, e.g. 10.0.0.7 or 10.0.0.0/24"
                ) from None
            if network.prefixlen == 0:
                raise ConfigError(f"RISK_PAGE_PROXIES: {part!r} is everybody; set the addresses of the proxies")
        if not self.page_user_header:
            return
        if not _HEADER.fullmatch(self.page_user_header):
            raise ConfigError(f"RISK_PAGE_USER_HEADER: {self.page_user_header!r} is no header, e.g. X-Remote-User")
        if not self.page_proxies:
            raise ConfigError("RISK_PAGE_PROXIES: set the addresses that may send RISK_PAGE_USER_HEADER")
        if not self.page_users:
            raise ConfigError(
                "RISK_PAGE_USERS: set the file that says which courses the users in RISK_PAGE_USER_HEADER may see"
            )

    def _check_moodle(self) -> None:
        if not self.moodle_url:
            return
        try:
            url = urlsplit(self.moodle_url)
            _ = url.port
        except ValueError:
            url = urlsplit("")
        plain = not url.query and not url.fragment and "@" not in url.netloc
        if url.scheme not in ("http", "https") or not url.hostname or not plain:
            raise ConfigError("RISK_MOODLE_URL: must be an http:// or https:// URL, as https://moodle.example.org")
