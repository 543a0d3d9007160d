"""The hub's control plane: `python -m nearhall.cli.roots.hub SETTINGS.json`. Two listeners: for sites, and for people.

Sites dial the hub's gateway, which hands `/api/v1/` on to the Unix socket here.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn

from nearhall import __version__
from nearhall.cli.roots.program import listen_unix, read_settings, run_program, say_ready, stop_event
from nearhall.cli.roots.tls_protocol import TlsProtocol
from nearhall.core.errors import InputError
from nearhall.drivers.clock import SystemClock
from nearhall.drivers.store_sqlite import SqliteStore
from nearhall.hub.api import control_api, peer_by_front, peer_by_tls
from nearhall.hub.live import Board
from nearhall.hub.page import page_app
from nearhall.hub.service import Hub
from nearhall.hub.settings import Api, Page, Settings, check_settings
from nearhall.report.live.page import render_page

BACKLOG = 512
CONNECTIONS_MAX = 2048
"""Ten for each of two hundred sites; a larger fleet has replicas."""
KEEP_ALIVE_S = 75
"""Longer than a long poll, so that a site's connection is reused."""
STOP_S = 2
DAY_S = 86_400.0


async def main(path: str) -> None:
    """Runs until told to stop."""
    settings = read_settings(path, Settings)
    check_settings(settings, where=path)
    stop = stop_event(with_stdin=settings.exit_with_stdin)
    clock = SystemClock()
    executor = ThreadPoolExecutor(1, thread_name_prefix="store")

    async def off_loop(call: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(executor, partial(call, *arguments))

    store = SqliteStore(Path(settings.store))
    board = Board(hub=f"hub ({settings.jurisdiction})", software=f"nearhall {__version__}", started_s=settings.run_started_s)
    hub = Hub(hub_id=store.hub_id, store=store, board=board, clock=clock, off_loop=off_loop)
    await hub.recall(settings.run_started_s)
    page = settings.page
    api = settings.api
    api_socket = _listen(api.host, api.port) if api.port is not None else listen_unix(Path(api.socket or ""), where="api.socket")
    page_socket = _listen(page.host, page.port)
    page_port = page_socket.getsockname()[1]
    api_at = {"api_socket": api.socket} if api.port is None else {"api_port": api_socket.getsockname()[1]}
    peer = peer_by_front if api.port is None else (peer_by_tls if api.tls is not None else None)
    serving = [
        (_server(control_api(hub, peer=peer), api), api_socket),
        (_server(page_app(hub, token=page.token, hosts=_hosts(page, page_port), render=render_page), None), page_socket),
    ]
    tasks = [asyncio.create_task(server.serve(sockets=[listening])) for server, listening in serving]
    tasks.append(asyncio.create_task(hub.forget(settings.retention_days * DAY_S)))
    say_ready(**api_at, page_port=page_port)
    halt = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({halt, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()  # nothing here ends by itself: what does, failed, and the program with it
    finally:
        halt.cancel()
        tasks[-1].cancel()
        hub.stop()
        for server, _ in serving:
            server.should_exit = True
        await asyncio.gather(*tasks, return_exceptions=True)
        executor.shutdown()
        store.close()


def _hosts(page: Page, port: int) -> frozenset[str]:
    """What the Host header may say."""
    names = (page.host, "localhost", "127.0.0.1", *page.names)
    return frozenset(f"[{name}]:{port}" if ":" in name else f"{name}:{port}" for name in names)


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the program has one way to stop."""

    def capture_signals(self) -> Any:
        """Nothing is captured."""
        from contextlib import nullcontext

        return nullcontext()


def _server(app: Any, api: Api | None) -> uvicorn.Server:
    secure: dict[str, Any] = {}
    if api is not None and api.tls is not None:
        secure = {
            "ssl_certfile": api.tls.cert,
            "ssl_keyfile": api.tls.key,
            "ssl_ca_certs": api.tls.ca,
            "ssl_cert_reqs": ssl.CERT_REQUIRED,
        }
    config = uvicorn.Config(
        app,
        http=TlsProtocol,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S,
        limit_concurrency=CONNECTIONS_MAX,
        **secure,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        right = "name a CA, a certificate and its key"
        raise InputError(f"the files cannot be used ({error})", where="api.tls", right=right) from error
    return _Server(config)


def _listen(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        reason = error.strerror if isinstance(error, OSError) else str(error)
        right = "choose another port, or end what listens there"
        raise InputError(f"cannot listen ({reason})", where=f"{host}:{port}", right=right) from error
    listening.listen(BACKLOG)
    return listening


if __name__ == "__main__":
    run_program(main)
