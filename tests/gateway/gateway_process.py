"""A real gateway process for tests: started, waited for, ended by its handle."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpcore

from waiting import until

READY_S = 30.0


class GatewayProcess:
    """One gateway on a free port."""

    def __init__(self, folder: Path, repository: Path, **settings: Any) -> None:
        self.socket = str(folder / "ctl")
        plain = {"node": "s/n", "jurisdiction": "DE", "repository": str(repository), "port": 0, "control_socket": self.socket}
        config = folder / "gateway.json"
        config.write_text(json.dumps({**plain, **settings}))
        self.log = folder / "gateway.log"
        out = folder / "gateway.out"
        with self.log.open("wb") as errors, out.open("wb") as written:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "nearhall.cli.roots.gateway", str(config)],
                stdout=written,
                stderr=errors,
                stdin=subprocess.PIPE,
            )
        try:
            until(lambda: b"READY" in out.read_bytes() or self.process.poll() is not None, READY_S, what="the gateway's READY")
            assert self.process.poll() is None, self.log.read_text()
        except AssertionError:
            self.kill()
            raise
        self.ready: dict[str, Any] = json.loads(out.read_bytes().partition(b"READY ")[2])
        self.port: int = self.ready["port"]
        self.address = f"127.0.0.1:{self.port}"

    def stats(self) -> dict[str, Any]:
        with httpcore.ConnectionPool(uds=self.socket) as pool:
            return json.loads(pool.request("GET", "http://control/control/stats").content)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self._ended()

    def kill(self) -> int:
        self.process.kill()
        return self._ended()

    def _ended(self) -> int:
        try:
            return self.process.wait(15)
        finally:  # one that does not end fails its own test alone
            self.process.kill()
            self.process.wait()
            if self.process.stdin is not None:
                self.process.stdin.close()


@contextmanager
def gateway(folder: Path, repository: Path, **settings: Any) -> Iterator[GatewayProcess]:
    """A gateway, ended at the end of the block."""
    running = GatewayProcess(folder, repository, **settings)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.stop()
