"""The private authority: who holds its certificates is let in, and nobody else."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from nearhall.core.errors import InputError
from nearhall.drivers.authority import Bundle, issue, make_authority, open_authority
from nearhall.drivers.clock import SystemClock
from nearhall.drivers.mutual_tls import client_context


@pytest.fixture
def hub(tmp_path: Path) -> Bundle:
    authority = make_authority(tmp_path / "authority")
    return issue(
        authority, "hub", tmp_path / "hub", kind="hub", dns_names=["localhost", "hub.example"], ip_addresses=["127.0.0.1"]
    )


def site(tmp_path: Path, name: str = "shop-01", authority: str = "authority") -> Bundle:
    made = make_authority(tmp_path / authority)
    return issue(made, name, tmp_path / authority / name, kind="site", dns_names=[], ip_addresses=[])


def certificate(bundle: Bundle) -> x509.Certificate:
    return x509.load_pem_x509_certificate(bundle.cert.read_bytes())


def uris(found: x509.Certificate) -> list[str]:
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)


@pytest.fixture
def listening(hub: Bundle) -> Iterator[tuple[int, list[str]]]:
    """A server that asks for a certificate and notes whose it was."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(hub.cert, hub.key)
    context.load_verify_locations(hub.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    seen: list[str] = []
    bound = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _ = bound.accept()
            except OSError:
                return
            with plain:
                plain.settimeout(5)
                try:
                    with context.wrap_socket(plain, server_side=True) as secure:
                        subject = dict(pair for names in secure.getpeercert()["subject"] for pair in names)
                        seen.append(subject["commonName"])
                        secure.sendall(b"in")
                except OSError:
                    continue

    thread = threading.Thread(target=serve)
    thread.start()
    yield bound.getsockname()[1], seen
    bound.shutdown(socket.SHUT_RDWR)
    bound.close()
    thread.join(10)


def dial(port: int, bundle: Bundle, name: str = "localhost", ca: Path | None = None) -> bytes:
    context = client_context(ca=str(ca or bundle.ca), cert=str(bundle.cert), key=str(bundle.key))
    with socket.create_connection(("127.0.0.1", port), 5) as plain, context.wrap_socket(plain, server_hostname=name) as secure:
        return secure.recv(2)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "hub.example"])
def test_a_site_and_its_hub_know_each_other(tmp_path: Path, listening: tuple[int, list[str]], name: str):
    port, seen = listening
    assert dial(port, site(tmp_path), name) == b"in"
    assert seen == ["shop-01"]


def test_a_stranger_is_not_let_in(tmp_path: Path, hub: Bundle, listening: tuple[int, list[str]]):
    port, seen = listening
    stranger = site(tmp_path, authority="elsewhere")
    with pytest.raises(OSError, match=r"(?i)unknown ca|reset|eof"):
        assert dial(port, stranger, ca=hub.ca) == b"in"
    assert seen == []
    assert dial(port, site(tmp_path)) == b"in"


def test_a_hub_of_another_name_is_not_believed(tmp_path: Path, listening: tuple[int, list[str]]):
    port, _ = listening
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        dial(port, site(tmp_path), "other.example")


def test_a_certificate_says_who_and_what_it_is(tmp_path: Path, hub: Bundle):
    for bundle, name, uri in ((hub, "hub", "nearhall:hub"), (site(tmp_path), "shop-01", "nearhall:site:shop-01")):
        found = certificate(bundle)
        assert found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == name
        assert uris(found) == [uri]
        assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_nothing_expires_while_a_site_stands(tmp_path: Path):
    found = certificate(site(tmp_path))
    now = datetime.fromtimestamp(SystemClock().utc(), UTC)
    assert found.not_valid_after_utc > now + timedelta(days=365 * 25)
    assert found.not_valid_before_utc < now - timedelta(hours=12), "a site whose clock is behind is let in too"


def test_keys_are_their_owners_alone(tmp_path: Path, hub: Bundle):
    for key in (hub.key, tmp_path / "authority" / "ca.key", site(tmp_path).key):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_an_authority_is_made_once(tmp_path: Path, hub: Bundle):
    again = make_authority(tmp_path / "authority")
    assert again.ca.read_bytes() == hub.ca.read_bytes()
    assert open_authority(tmp_path / "authority") == again


def test_a_certificate_is_issued_anew_with_a_new_key(tmp_path: Path, listening: tuple[int, list[str]]):
    first = site(tmp_path)
    key = first.key.read_bytes()
    second = site(tmp_path)
    assert second.key.read_bytes() != key
    assert dial(listening[0], second) == b"in"


def test_without_an_authority_nothing_is_issued(tmp_path: Path):
    with pytest.raises(InputError, match="there is no certificate authority"):
        open_authority(tmp_path)
