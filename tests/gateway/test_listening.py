"""Addresses and certificates that cannot be had are told before a model is loaded, each in one line that names it."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from nearhall.cli.roots.listening import Held, answering, bind, hold, load_certificates, may_listen, tls_context
from nearhall.cli.roots.program import make_way
from nearhall.core.errors import InputError
from nearhall.drivers.authority import issue, make_authority
from nearhall.gateway.http.server import Server
from nearhall.gateway.settings import Tls


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ca")
    paths = issue(make_authority(folder / "authority"), "n1", folder / "n1", kind="hub", dns_names=[], ip_addresses=["127.0.0.1"])
    return Tls(ca=str(paths.ca), cert=str(paths.cert), key=str(paths.key))


def told(call) -> str:
    with pytest.raises(InputError) as caught:
        call()
    return str(caught.value)


def test_every_file_that_cannot_be_used_is_named(tmp_path, files):
    assert tls_context(files).verify_mode is ssl.CERT_REQUIRED
    assert tls_context(None) is None
    with hold("127.0.0.1", 0, tls=files) as held:
        assert held.http.getsockname()[1]
    words, other = tmp_path / "words", tmp_path / "other.key"
    words.write_text("no certificate")
    paths = issue(make_authority(tmp_path / "b"), "n2", tmp_path / "n2", kind="hub", dns_names=[], ip_addresses=[])
    other.write_bytes(Path(paths.key).read_bytes())
    secret = tmp_path / "secret.key"
    key = serialization.load_pem_private_key(Path(files.key).read_bytes(), None)
    form = serialization.PrivateFormat.PKCS8
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"password")))
    for says, wrong in {
        f"tls.ca: {tmp_path}/none cannot be read (No such file": {"ca": str(tmp_path / "none")},
        f"tls.cert: {tmp_path} cannot be read (Is a directory)": {"cert": str(tmp_path)},
        f"tls.ca: {words} holds no certificate": {"ca": str(words)},
        f"tls.cert: {words} holds no certificate": {"cert": str(words)},
        f"tls.key: {words} is not the key of {files.cert}": {"key": str(words)},
        f"tls.key: {other} is not the key of {files.cert}": {"key": str(other)},
        f"tls.key: {secret} is not the key of {files.cert}; name its key, as a PEM file without": {"key": str(secret)},
    }.items():
        given = Tls(**{"ca": files.ca, "cert": files.cert, "key": files.key, **wrong})
        assert says in told(lambda given=given: hold("127.0.0.1", 0, tls=given))
    none, client = Tls(ca="x", cert="x", key="x"), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    elsewhere = told(lambda: load_certificates(client, none, where="hub.tls"))
    assert elsewhere.startswith("hub.tls.ca: x cannot be read")


def test_every_address_is_tried(tmp_path, free_port):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"grpc: cannot listen at 127.0.0.1:{port} (" in told(lambda: hold("127.0.0.1", 0, grpc=f"127.0.0.1:{port}"))
        assert f"http: cannot listen at 127.0.0.1:{port} (" in told(lambda: hold("127.0.0.1", port))
    assert "http: cannot listen at 192.0.2.1:0 (Cannot assign" in told(lambda: bind("192.0.2.1", 0))
    port = free_port()
    with hold("127.0.0.1", port, grpc=f"127.0.0.1:{free_port()}"):
        pass
    for hosts in (("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "0.0.0.0")):
        says = told(lambda hosts=hosts: hold(hosts[1], port, grpc=f"{hosts[0]}:{port}"))
        assert says == f"grpc: port {port} is that of http already; choose another port"
    twice = str(tmp_path / "s")
    with hold("127.0.0.1", 0, uds=twice, grpc=f"unix:{twice}g", control_socket=f"{twice}c"):
        pass
    assert "is the path of control_socket already" in told(lambda: hold("127.0.0.1", 0, uds=twice, control_socket=twice))
    assert "is the path of uds already" in told(lambda: hold("127.0.0.1", 0, uds=twice, grpc=f"unix:{twice}"))


def test_what_is_held_nobody_else_gets_though_nothing_listens_and_everybody_may_have_it_after(tmp_path, free_port):
    port, grpc, paths = free_port(), free_port(), [str(tmp_path / name) for name in ("u", "g")]
    ways = [
        (f"http: cannot listen at 127.0.0.1:{port} (", {"port": port}),
        (f"http: cannot listen at 0.0.0.0:{port} (", {"port": port, "host": "0.0.0.0"}),
        (f"grpc: cannot listen at 127.0.0.1:{grpc} (", {"grpc": f"127.0.0.1:{grpc}"}),
        (f"grpc: cannot listen at 127.0.0.1:{port} (", {"grpc": f"127.0.0.1:{port}"}),
        (f"uds: another program is about to listen at {paths[0]}; end it", {"uds": paths[0]}),
        (f"grpc: another program is about to listen at {paths[0]}; end it", {"grpc": f"unix:{paths[0]}"}),
        (f"uds: another program is about to listen at {tmp_path}/here/u", {"uds": f"{tmp_path}/here/u"}),
    ]
    (tmp_path / "here").symlink_to(tmp_path)
    with hold("127.0.0.1", port, grpc=f"127.0.0.1:{grpc}", uds=paths[0]):
        for says, given in ways:
            assert says in told(lambda given=given: hold(**{"host": "127.0.0.1", "port": 0, **given}))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5.0)
    for _, given in ways:
        with hold(**{"host": "127.0.0.1", "port": 0, **given}):
            pass


def test_a_port_is_held_and_had_again_at_once_after_connections_that_this_end_has_closed(free_port):
    port = free_port()
    for _ in range(3):
        with bind("127.0.0.1", port) as held:
            with pytest.raises(InputError):
                bind("127.0.0.1", port)
            may_listen(held).listen()
            with socket.create_connection(("127.0.0.1", port), timeout=5.0) as client:
                held.accept()[0].close()
                assert client.recv(1) == b""


def test_a_path_that_no_socket_can_have(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_way(Path("s"), where="uds")
    assert f"cannot be made (there is no folder {tmp_path}/none)" in told(lambda: make_way(Path("none/s"), where="uds"))
    assert "9 bytes shorter" in told(lambda: make_way(Path("/tmp") / ("x" * 111), where="uds"))
    (tmp_path / "closed").mkdir(mode=0o500)
    if os.access(tmp_path / "closed", os.W_OK):
        pytest.skip("root may write anywhere")
    assert "you may not write in" in told(lambda: make_way(Path("closed/s"), where="uds"))


def test_who_listens_second_at_a_port_that_two_have_bound_is_told():
    async def run():
        first = bind("127.0.0.1", 0)
        port = first.getsockname()[1]
        may_listen(first)
        with Held(http=first) as one, Held(http=may_listen(bind("127.0.0.1", port))) as two:
            async with answering(Server(None, body_bytes_max=1), one, tls=None, drain_s=0, grpc=None, local=None) as here:
                assert here.port == port
                with pytest.raises(InputError, match=f"http: cannot listen at 127.0.0.1:{port}"):
                    async with answering(Server(None, body_bytes_max=1), two, tls=None, drain_s=0, grpc=None, local=None):
                        pass

    asyncio.run(run())
