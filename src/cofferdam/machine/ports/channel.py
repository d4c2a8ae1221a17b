"""The guest's questions before a container starts: JSON lines over a virtio port.

`{"id": 7, "op": "reserve", "container": ID, "ports": [["tcp", 8080]]}` is answered with `{"id": 7, "ok": true}`, or with
`{"id": 7, "ok": false, "address": "127.0.0.1:8080", "reason": TEXT}`. The guest is not trusted: what is no such line is dropped.
"""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from cofferdam.machine.channels import LOOPBACK, Address
from cofferdam.machine.ports.forwards import MOST
from cofferdam.machine.ports.ledger import Ledger
from cofferdam.machine.ports.wanted import Port, Protocol

_LINE = 1 << 16


class _Question(BaseModel):
    id: int
    op: Literal["reserve"]
    container: str
    ports: list[tuple[Protocol, Annotated[int, Field(ge=1, le=65535)]]] = Field(max_length=MOST)


async def answer(line: bytes, ledger: Ledger, address: str) -> bytes | None:
    """The answer to one line of the guest; none for what is no question."""
    try:
        question = _Question.model_validate_json(line)
    except ValidationError:
        return None
    refusal = await ledger.reserve(question.container, [Port(*port) for port in question.ports])
    reply: dict[str, Any] = {"id": question.id, "ok": refusal is None}
    if refusal is not None:
        reply |= {"address": f"{address}:{refusal.port.number}", "reason": refusal.reason}
    return json.dumps(reply).encode() + b"\n"


async def serve(channel: Address, ledger: Ledger, address: str) -> None:
    """Answer the guest until QEMU closes the channel. Raises OSError: it cannot be connected to."""
    opening = (
        asyncio.open_connection(LOOPBACK, channel.port, limit=_LINE, ssl=channel.tls) if channel.port else _unix(channel.path)
    )
    reader, writer = await opening
    try:
        while line := await _line(reader):
            reply = await answer(line, ledger, address)
            if reply is not None:
                writer.write(reply)
                await writer.drain()
    finally:
        writer.close()


async def _unix(path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_unix_connection(path, limit=_LINE)


async def _line(reader: asyncio.StreamReader) -> bytes:
    """The next line, empty at the end; one that is too long comes in pieces, which are no questions."""
    try:
        return await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError:
        return b""
    except asyncio.LimitOverrunError as error:
        return await reader.read(error.consumed)
