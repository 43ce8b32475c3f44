#!/usr/bin/env python3
"""A server that takes whatever comes: `hostile_origin.py PORT`. It says of each connection, when that ends, what was heard.

HTTP/1 heads are answered with `ok`; behind /quiet nothing is answered, behind /big come 64 MiB, /slow is answered with a head
of 1 MiB. HTTP/2 is greeted with room for one stream, and answered with nothing."""
import asyncio
import hashlib
import json
import re
import sys

PIECE = bytes(range(256)) * 1024
HEAD_END = re.compile(rb"\r?\n\r?\n")
OURS = re.compile(rb"(?im)^trace(parent|state):.*\r?\n")


async def serve(reader, writer):
    # Drained is what the kernel has, for at the client's end the rest is thrown away.
    writer.transport.set_write_buffer_limits(0)
    heard, head, error, answered = 0, b"", None, 0
    try:
        while data := await reader.read(1 << 16):
            heard += len(data)
            if len(head) < 8 << 20:
                head += data
            if head.startswith(b"PRI * HTTP/2.0"):
                if not answered:
                    answered = 1
                    writer.write(b"\0\0\6\4\0\0\0\0\0\0\3\0\0\0\1")
                continue
            answered = await answer(head, answered, writer)
        writer.close()
    except OSError as failed:
        error = type(failed).__name__
    kept, lines = OURS.subn(b"", head)
    print(json.dumps({"call": {"heard": heard, "ours": lines, "kept": len(kept), "sha256": hashlib.sha256(kept).hexdigest(),
                               "begin": kept[:60].decode("latin-1"), "error": error}}, separators=(",", ":")), flush=True)
    writer.transport.abort()


async def answer(head, answered, writer):
    """Answers the heads that are there. None of them has a body that is answered."""
    ends = [match.end() for match in HEAD_END.finditer(head)]
    for end in ends[answered:]:
        if b"/quiet" in head[:end].rsplit(b"HTTP/1.", 1)[0]:
            continue
        if head.startswith(b"GET /big"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (256 * len(PIECE)))
            for _ in range(256):
                writer.write(PIECE)
                await writer.drain()
        elif head.startswith(b"GET /slow"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: ")
            for _ in range(16):
                writer.write(b"x" * 65536)
                await writer.drain()
            writer.write(b"\r\n\r\nok")
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()
    return len(ends)


async def main(port):
    server = await asyncio.start_server(serve, "0.0.0.0", int(port), backlog=4096, limit=1 << 16)
    print("listening", flush=True)
    await server.serve_forever()

import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
asyncio.run(main(sys.argv[1]))
