"""A gateway process for a benchmark: started on a repository, asked over HTTP and its control socket, and ended."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nearhall.cli.roots.bench.load import ask, connect

END_S_MAX = 20.0


class Gateway:
    """The real program, with a port of its own."""

    def __init__(self, repository: Path, folder: Path, **more: Any) -> None:
        """Starts it; `folder` takes its settings and its control socket, `more` is added to its settings. Raises RuntimeError."""
        folder.mkdir(parents=True, exist_ok=True)
        self._control = folder / "control.sock"
        settings = {"node": "bench/n1", "jurisdiction": "ZZ", "repository": str(repository), "port": 0}
        settings |= {"control_socket": str(self._control)}
        (folder / "gateway.json").write_text(json.dumps(settings | more))
        command = [sys.executable, "-m", "nearhall.cli.roots.gateway", str(folder / "gateway.json")]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sys.stderr, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("READY "):
            self._process.kill()
            self._process.wait()
            raise RuntimeError("the gateway did not start")
        self.port: int = json.loads(line.removeprefix("READY "))["port"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(END_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def ask(self, request: bytes) -> tuple[int, bytes, bytes]:
        """One request on a connection of its own: status, head and body of the answer."""
        with connect(("127.0.0.1", self.port)) as link:
            return ask(link, request)

    def control(self, method: str, path: str) -> dict[str, Any]:
        """What the control socket answers."""
        with socket.socket(socket.AF_UNIX) as asked:
            asked.connect(str(self._control))
            asked.sendall(f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: asked.recv(1 << 16), b""))
        return json.loads(answer.partition(b"\r\n\r\n")[2] or b"{}")

    def stats(self) -> dict[str, Any]:
        """`GET /control/stats`."""
        return self.control("GET", "/control/stats")

    def models(self) -> dict[str, dict[str, Any]]:
        """How its models stand, by name."""
        return {model["name"]: model for model in self.stats()["models"]}
