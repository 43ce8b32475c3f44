#!/usr/bin/env python3
"""A server that hears ClientHellos and answers with the digest of what it heard: `hello_origin.py MODE PORT COUNT FILE…`, on so
many ports. As soon as it has heard just what a file holds, or else when it hears FIN. In the mode `resets` whoever says what
no file begins with is reset: a server that takes no hello but the clients' own."""
import asyncio
import hashlib
import json
import sys
from pathlib import Path

mode, port, count, *files = sys.argv[1:]
HELLOS = {Path(file).read_bytes() for file in files}


async def serve(reader, writer):
    heard, known = b"", set(HELLOS)
    try:
        while data := await reader.read(1 << 16):
            heard += data
            if heard in HELLOS:
                break
            known = {hello for hello in known if hello.startswith(heard)}
            if mode == "resets" and not known:
                say(end="reset")
                return writer.transport.abort()
        writer.write(hashlib.sha256(heard).hexdigest().encode())
        await reader.read()
        say(end="heard")
        writer.close()
    except OSError:
        writer.transport.abort()


def say(**what):
    print(json.dumps({"call": what}, separators=(",", ":")), flush=True)


async def main():
    first = int(port)
    servers = [await asyncio.start_server(serve, "0.0.0.0", at, backlog=4096) for at in range(first, first + int(count))]
    print("listening", flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))

asyncio.run(main())
