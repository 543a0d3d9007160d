"""The hub's control plane: `python -m nearhall.cli.roots.hub SETTINGS.json`. Two listeners: for sites, and for people."""

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
from nearhall.cli.roots.program import read_settings, run_program, say_ready, stop_event
from nearhall.cli.roots.tls_protocol import TlsProtocol
from nearhall.core.errors import TemporaryError
from nearhall.drivers.clock import SystemClock
from nearhall.drivers.store_sqlite import SqliteStore
from nearhall.hub.api import control_api
from nearhall.hub.live import Board
from nearhall.hub.page import page_app
from nearhall.hub.service import Hub
from nearhall.hub.settings import Api, Settings
from nearhall.report.page import render_page

BACKLOG = 512
CONNECTIONS_MAX = 2048
"""Ten for each of two hundred sites; a larger fleet has replicas."""
KEEP_ALIVE_S = 75
"""Longer than a long poll, so that a site's connection is reused."""
STOP_S = 2


async def main(path: str) -> None:
    """Runs until told to stop."""
    settings = read_settings(path, Settings)
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
    hosts = frozenset(f"{name}:{page.port}" for name in (page.host, "localhost", "127.0.0.1"))
    api_server = _server(control_api(hub, identify=settings.api.tls is not None), settings.api)
    page_server = _server(page_app(hub, token=page.token, hosts=hosts, render=render_page), None)
    serving = [
        asyncio.create_task(api_server.serve(sockets=[_listen(settings.api.host, settings.api.port)])),
        asyncio.create_task(page_server.serve(sockets=[_listen(page.host, page.port)])),
    ]
    say_ready(api_port=settings.api.port, page_port=page.port)
    halt = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({halt, *serving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        halt.cancel()
        api_server.should_exit = page_server.should_exit = True
        api_server.force_exit = page_server.force_exit = True
        await asyncio.gather(*serving, return_exceptions=True)
        executor.shutdown()
        store.close()


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
        lifespan="off",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S,
        limit_concurrency=CONNECTIONS_MAX,
        **secure,
    )
    return _Server(config)


def _listen(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise TemporaryError(f"port {port} on {host} is taken ({error.strerror}); choose another") from error
    listening.listen(BACKLOG)
    return listening


if __name__ == "__main__":
    run_program(main)
