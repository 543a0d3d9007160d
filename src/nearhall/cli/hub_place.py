"""A hub on a machine of its own: its folder, certificates and the settings of its two programs (gateway and control plane).

STATE/authority/ca.pem, ca.key    whom sites trust; the key never leaves this folder
STATE/tls/                        the hub's own certificate, issued anew at every start for the names it is given
STATE/hub.db                      what the hub remembers
STATE/token                       opens the page (mode 0600)
STATE/control.sock                between the two programs (mode 0600)
STATE/settings/, STATE/logs/      of both programs
"""

from __future__ import annotations

import ipaddress
import json
import re
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearhall.cli.pilot.processes import Program
from nearhall.core.errors import InputError
from nearhall.core.residency import Residency
from nearhall.documents.whole_file import write_whole
from nearhall.drivers.authority import Bundle, issue, make_authority, open_authority

Json = dict[str, Any]

SITE_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
"""As in documents: names that fit a certificate, a folder and a column."""
SOCKET_PATH_MAX = 107
"""sun_path holds 108 bytes, one for the end (unix(7))."""
RESERVED = frozenset({"hub"})
"""The hub's own name in certificates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to listen."""

    host: str
    port: int

    @property
    def url_host(self) -> str:
        """The host as it stands in a URL: IPv6 in brackets."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def everywhere(self) -> bool:
        """Whether it listens on all of the machine's addresses."""
        return self.host in {"0.0.0.0", "::"}  # noqa: S104 (compared, not bound)


def parse_address(text: str, *, option: str) -> Address:
    """Reads `PORT`, `HOST:PORT` or `[IPV6]:PORT`; 127.0.0.1 unless a host is named. Raises InputError."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise InputError(f"{text!r} is no address", where=option, right="[HOST:]PORT, for example 8443 or 0.0.0.0:8443")
    return Address(host=host, port=int(port))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the operator asked for."""

    state: Path
    listen: Address
    """Where sites dial: the gateway, which hands the control API's requests on."""
    page: Address
    repository: Path
    jurisdiction: str
    names: Sequence[str]
    """DNS names and IP addresses under which sites reach this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Laid:
    """A hub ready to be started."""

    programs: Sequence[Program]
    token: str
    page_url: str


def lay_out_hub(wanted: Wanted, *, started_s: float) -> Laid:
    """Folder, certificates, token and settings; nothing is started. Raises InputError for what cannot be."""
    _check(wanted)
    folder = wanted.state
    try:
        for part in (folder, folder / "settings", folder / "logs"):
            part.mkdir(parents=True, exist_ok=True, mode=0o700)
        bundle = _own_certificate(wanted)
        token = _token(folder / "token")
        settings = {"hub-gateway": _gateway(wanted, bundle), "hub": _control(wanted, token, started_s)}
        for name, values in settings.items():
            write_whole(folder / "settings" / f"{name}.json", json.dumps(values, indent=1).encode(), mode=0o600)
    except OSError as error:
        right = "name a folder that you may write"
        raise InputError(f"{folder} cannot be used ({error.strerror})", where="--state", right=right) from error
    programs = [_program(wanted, "hub gateway", "gateway"), _program(wanted, "hub", "hub")]
    shown = Address(host="127.0.0.1", port=wanted.page.port) if wanted.page.everywhere else wanted.page
    return Laid(programs=programs, token=token, page_url=f"http://{shown.url_host}:{shown.port}/?token={token}")


def issue_site(state: Path, site: str, out: Path) -> Bundle:
    """A site's certificate bundle in `out`/`site`; raises InputError without an authority, or for a name that is none."""
    if not SITE_ID.fullmatch(site) or site in RESERVED:
        right = "lower case letters, digits and dashes, at most 31; hub is taken"
        raise InputError(f"{site!r} is no name for a site", where="--site", right=right)
    authority = open_authority(state / "authority")
    try:
        return issue(authority, site, out / site, kind="site", dns_names=[], ip_addresses=[])
    except OSError as error:
        right = "name a folder that you may write"
        raise InputError(f"{out} cannot be written ({error.strerror})", where="--out", right=right) from error


def sort_names(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """(DNS names, IP addresses), each once, this machine's own always among them; raises InputError for neither."""
    dns, addresses = {"localhost": None}, {"127.0.0.1": None}
    for name in names:
        try:
            addresses[str(ipaddress.ip_address(name.strip("[]")))] = None
        except ValueError:
            if not re.fullmatch(r"(?!-)[A-Za-z0-9.-]{1,253}(?<![.-])", name):
                raise InputError(f"{name!r} is neither a DNS name nor an IP address", where="--name") from None
            dns[name.lower()] = None
    return list(dns), list(addresses)


def _check(wanted: Wanted) -> None:
    if not wanted.repository.is_dir():
        right = "a model repository; `nearhall models fetch` makes one"
        raise InputError(f"{wanted.repository} is no folder", where="--repository", right=right)
    try:
        Residency.parse(f"jurisdiction:{wanted.jurisdiction}")
    except ValueError as error:
        raise InputError(str(error), where="--jurisdiction") from error
    if wanted.listen.port == wanted.page.port:
        raise InputError("both listeners have the same port", where="--listen, --page", right="one for each")
    longest = len(str(_control_socket(wanted.state)).encode())
    if longest > SOCKET_PATH_MAX:
        right = f"name a folder whose path is {longest - SOCKET_PATH_MAX} bytes shorter"
        raise InputError(f"{wanted.state} is too long for a Unix socket", where="--state", right=right)


def _own_certificate(wanted: Wanted) -> Bundle:
    dns, addresses = sort_names([*wanted.names, *([] if wanted.listen.everywhere else [wanted.listen.host])])
    authority = make_authority(wanted.state / "authority")
    return issue(authority, "hub", wanted.state / "tls", kind="hub", dns_names=dns, ip_addresses=addresses)


def _token(path: Path) -> str:
    """The page's token: made once, so that an open page survives a restart."""
    if path.exists() and (token := path.read_text().strip()):
        return token
    token = secrets.token_urlsafe(24)
    write_whole(path, token.encode(), mode=0o600)
    return token


def _control_socket(state: Path) -> Path:
    return state / "control.sock"


def _tls(bundle: Bundle) -> Json:
    return {"ca": str(bundle.ca), "cert": str(bundle.cert), "key": str(bundle.key)}


def _gateway(wanted: Wanted, bundle: Bundle) -> Json:
    return {
        "node": "hub",
        "jurisdiction": wanted.jurisdiction,
        "repository": str(wanted.repository),
        "host": wanted.listen.host,
        "port": wanted.listen.port,
        "tls": _tls(bundle),
        "control_plane": str(_control_socket(wanted.state)),
        "pid_file": str(wanted.state / "gateway.json"),
        "exit_with_stdin": True,
    }


def _control(wanted: Wanted, token: str, started_s: float) -> Json:
    return {
        "jurisdiction": wanted.jurisdiction,
        "store": str(wanted.state / "hub.db"),
        "api": {"socket": str(_control_socket(wanted.state))},
        "page": {"host": wanted.page.host, "port": wanted.page.port, "token": token, "names": list(wanted.names)},
        "run_started_s": started_s,
        "exit_with_stdin": True,
    }


def _program(wanted: Wanted, name: str, module: str) -> Program:
    slug = name.replace(" ", "-")
    config = wanted.state / "settings" / f"{slug}.json"
    command = (sys.executable, "-m", f"nearhall.cli.roots.{module}", str(config))
    return Program(name=name, command=command, log=wanted.state / "logs" / f"{slug}.log")
