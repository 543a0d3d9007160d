"""The time to the first token, as the players take it, is that of the first text."""

from __future__ import annotations

import asyncio
import json

from nearhall.drivers.clock import SystemClock
from nearhall.sim.players.client import GatewayClient
from nearhall.sim.players.seen import Seen
from nearhall.sim.players.work import Request
from waiting import until_async


def piece(content: str | None, **more: object) -> bytes:
    said = {"choices": [{"index": 0, "delta": {"content": content, **more}}]}
    return b"data: %s\n\n" % json.dumps(said).encode()


def test_the_time_to_the_first_token_is_that_of_the_text():
    """The role comes at once, the text 0.2 s later in two halves, the end 0.2 s after it."""
    clock = SystemClock()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        text = piece("yes")
        parts = [piece("", role="assistant"), text[:20], text[20:], b"data: [DONE]\n\n"]
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for part, pause_s in zip(parts, (0.2, 0.0, 0.2, 0.0), strict=True):
            writer.write(b"%x\r\n%s\r\n" % (len(part), part))
            await writer.drain()
            sent_s = clock.monotonic()
            await until_async(lambda: clock.monotonic() - sent_s >= pause_s)  # noqa: B023 (awaited within the round)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def story() -> tuple[float | None, float]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = GatewayClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", clock)
        answer = await client.ask(Request(path="/", headers=[], body=b"", streamed=True), Seen(), intended_s=clock.monotonic())
        await client.close()
        server.close()
        assert answer is not None
        return answer.first_token_s, answer.got_s - answer.asked_s

    first_s, whole_s = asyncio.run(story())
    assert first_s is not None
    assert 0.2 <= first_s < whole_s - 0.19
