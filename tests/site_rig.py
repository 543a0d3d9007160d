"""A real agent with a gateway of a few lines, for tests: started, waited for, ended by its handle."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from waiting import until

FAKE = Path(__file__).with_name("site") / "fake_gateway.py"


class Site:
    """One site in a folder: its agent may be started and killed again and again."""

    def __init__(self, folder: Path, port: int, **settings: Any) -> None:
        self.folder, self.port = folder, port
        self.pid_file = folder / "gateway.json"
        self.out, self.log = folder / "agent.out", folder / "agent.log"
        self.agent: subprocess.Popen[bytes] | None = None
        control = str(folder / "ctl")
        plain = {
            "site": "shop-01",
            "class": "micro",
            "jurisdiction": "DE",
            "port": port,
            "state_dir": str(folder),
            "models_dir": str(folder),
            "gateway_command": [sys.executable, str(FAKE), str(port), str(self.pid_file), control],
            "gateway_pid_file": str(self.pid_file),
            "gateway_control_socket": control,
            "agent_pid_file": str(folder / "agent.json"),
            "agent_socket": str(folder / "agent"),
            "results_socket": str(folder / "results"),
            "workloads": [{"id": "video", "model": "faces"}],
            "window_s": 0.1,
            "exit_with_stdin": True,
        }
        self.config = folder / "settings.json"
        self.config.write_text(json.dumps(plain | settings))

    def start(self) -> subprocess.Popen[bytes]:
        self.out.unlink(missing_ok=True)
        with self.out.open("wb") as out, self.log.open("ab") as log:
            command = [sys.executable, "-m", "nearhall.cli.roots.agent", str(self.config)]
            self.agent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=log)
        agent = self.agent
        until(lambda: b"READY" in self.out.read_bytes() or agent.poll() is not None, 20, what="the agent's READY")
        assert agent.poll() is None, self.log.read_text()
        return agent

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.agent is not None
        self.agent.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        assert self.agent is not None
        code = self.agent.wait(20)
        if self.agent.stdin is not None:
            self.agent.stdin.close()
        return code

    def until_up(self) -> int:
        """Waits until the gateway answers and the agent watches it; gives its process."""
        until(lambda: self.status() == 200, what="the gateway's answer")
        until(lambda: self.gateway_pid is not None and self.state()["gateway_pid"] == self.gateway_pid, what="the agent's watch")
        pid = self.gateway_pid
        assert pid is not None
        return pid

    @property
    def gateway_pid(self) -> int | None:
        with suppress(OSError, ValueError):
            return int(json.loads(self.pid_file.read_bytes())["pid"])
        return None

    def status(self, method: str = "GET", path: str = "/v2") -> int | None:
        """The status that a client of the service port gets; None when it is refused or reset."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request(method, path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def state(self) -> dict[str, Any]:
        """What the agent says of itself on its own socket."""
        with socket.socket(socket.AF_UNIX) as own:
            own.settimeout(5)
            own.connect(str(self.folder / "agent"))
            own.sendall(b"GET /state HTTP/1.1\r\n\r\n")
            answer = b""
            while part := own.recv(65_536):
                answer += part
        return json.loads(answer.partition(b"\r\n\r\n")[2])


@contextmanager
def site(folder: Path, port: int, **settings: Any) -> Iterator[Site]:
    """A site whose agent and gateway are ended at the end of the block."""
    made = Site(folder, port, **settings)
    try:
        yield made
    finally:
        if made.agent is not None and made.agent.poll() is None:
            made.agent.kill()
            made.ended()
        pid = made.gateway_pid
        if pid is not None and alive(pid):
            os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
