# SPDX-License-Identifier: Apache-2.0
"""Lets this machine's loopback into the cluster's own network: python -m testcluster.doorway FD PORT

FD is a listening socket that was opened outside, PORT the API server's inside.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys

BLOCK_BYTES = 1 << 16


async def serve(listener: socket.socket, port: int) -> None:
    """Join each connection to `listener` with one of its own to 127.0.0.1:port."""

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:  # the API server is not there yet
            writer.close()
            return
        await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))

    server = await asyncio.start_server(join, sock=listener)
    await server.serve_forever()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until the reader's side ends."""
    with contextlib.suppress(ConnectionError, OSError):
        while block := await reader.read(BLOCK_BYTES):
            writer.write(block)
            await writer.drain()
    with contextlib.suppress(ConnectionError, OSError):
        writer.close()


if __name__ == "__main__":
    asyncio.run(serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])))
