"""The private certificate authority of a hub and its sites (cryptography).

EC P-256 keys, files of mode 0600. A certificate's common name is the site's id, or `hub`; its URI says what it is
(`nearhall:site:ID`, `nearhall:hub`). Certificates live for thirty years: nothing that expires while a site is cut off may stop it
or ask for a visit. Who must no longer be let in is taken out of the hub's registry, not left to a date.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nearhall.core.errors import InputError
from nearhall.documents.whole_file import write_whole

YEARS = 30
BACKDATED = timedelta(days=1)
"""A site whose clock is behind must still find its certificate valid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A folder with `ca.pem` and `ca.key`."""

    folder: Path

    @property
    def ca(self) -> Path:
        """The certificate that everybody trusts."""
        return self.folder / "ca.pem"

    @property
    def key(self) -> Path:
        """The key that never leaves the hub."""
        return self.folder / "ca.key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What one end needs."""

    ca: Path
    cert: Path
    key: Path


def make_authority(folder: Path) -> Authority:
    """The authority in `folder`, made on the first call."""
    authority = Authority(folder=folder)
    if authority.ca.exists() and authority.key.exists():
        return authority
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nearhall private authority")])
    certificate = (
        _begun(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    write_whole(authority.key, _private(key), mode=0o600)
    write_whole(authority.ca, certificate.public_bytes(serialization.Encoding.PEM))
    return authority


def open_authority(folder: Path) -> Authority:
    """The authority that stands in `folder`; raises InputError when there is none."""
    authority = Authority(folder=folder)
    if not (authority.ca.exists() and authority.key.exists()):
        raise InputError(
            f"there is no certificate authority in {folder}", right="name the state folder of a hub that has run once"
        )
    return authority


def issue(
    authority: Authority, name: str, folder: Path, *, kind: str, dns_names: Sequence[str], ip_addresses: Sequence[str]
) -> Bundle:
    """A new certificate for `name` (`kind`: `hub` or `site`), with its key and the authority's certificate, in `folder`."""
    ca_key = serialization.load_pem_private_key(authority.key.read_bytes(), password=None)
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        raise InputError(f"{authority.key} is no EC key", right="let nearhall make the authority")
    ca = x509.load_pem_x509_certificate(authority.ca.read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    uri = "nearhall:hub" if kind == "hub" else f"nearhall:site:{name}"
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)]
    names.extend(x509.DNSName(dns) for dns in dns_names)
    names.extend(x509.IPAddress(ipaddress.ip_address(ip)) for ip in ip_addresses)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _begun(subject, ca.subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    bundle = Bundle(ca=folder / "ca.pem", cert=folder / "cert.pem", key=folder / "key.pem")
    write_whole(bundle.key, _private(key), mode=0o600)
    write_whole(bundle.ca, authority.ca.read_bytes())
    write_whole(bundle.cert, certificate.public_bytes(serialization.Encoding.PEM))
    return bundle


def _begun(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)  # noqa: TID251 (a certificate is dated)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=365 * YEARS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
