"""A Modbus TCP device of a few lines for tests: it answers as told, or is silent, refuses, cuts short, hangs up."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

IDENTIFICATION = 0x2B
HOLDING, INPUT = 3, 4
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS = 1, 2


class Device:
    """One unit. `registers` by address; `objects` None: refuses to name itself; `silent`: function codes left unanswered."""

    def __init__(
        self,
        registers: Mapping[int, int],
        *,
        function: int = 4,
        objects: Mapping[int, str] | None = None,
        serial: tuple[int, int] | None = None,
    ) -> None:
        self.registers = dict(registers)
        self.serial = serial
        """Its address among the holding registers, and the number there."""
        self.exceptions: dict[int, int] = {}
        """Function code to the exception code that it is answered with."""
        self.function = function
        self.objects = objects
        self.silent: dict[int, int] = {}
        """Function code to how many requests it leaves unanswered."""
        self.short = False
        self.port = 0
        self.asked: list[int] = []
        self.counts: list[int] = []
        """Registers asked for in each read."""
        self._writers: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncGenerator[Device]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.hang_up()
            while self._writers:  # noqa: ASYNC110 (each ends within a turn of the loop)
                await asyncio.sleep(0)

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                transaction, _, length, unit = struct.unpack(">HHHB", await reader.readexactly(7))
                pdu = await reader.readexactly(length - 1)
                self.asked.append(pdu[0])
                if self.silent.get(pdu[0], 0) > 0:
                    self.silent[pdu[0]] -= 1
                    continue
                answer = self._answer(pdu)
                writer.write(struct.pack(">HHHB", transaction, 0, len(answer) + 1, unit) + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _answer(self, pdu: bytes) -> bytes:
        code = pdu[0]
        if code in self.exceptions:
            return bytes([code | 0x80, self.exceptions[code]])
        if code == HOLDING and self.serial is not None and pdu[1:5] == struct.pack(">HH", self.serial[0], 2):
            return bytes([code, 4]) + struct.pack(">I", self.serial[1])
        if code == IDENTIFICATION and self.objects is not None:
            parts = b"".join(bytes([number, len(text)]) + text.encode() for number, text in self.objects.items())
            return bytes([code, 0x0E, pdu[2], 0x83, 0, 0, len(self.objects)]) + parts
        if code != self.function:
            return bytes([code | 0x80, ILLEGAL_FUNCTION])
        start, count = struct.unpack(">HH", pdu[1:5])
        self.counts.append(count)
        if not any(address in self.registers for address in range(start, start + count)):
            return bytes([code | 0x80, ILLEGAL_ADDRESS])
        words = [self.registers.get(address, 0) for address in range(start, start + count - self.short)]
        return bytes([code, 2 * len(words)]) + b"".join(word.to_bytes(2, "big") for word in words)
