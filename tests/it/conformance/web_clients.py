#!/usr/bin/env python3
"""Real HTTP clients of Python's: `web_clients.py SERVER=URL…` plays, for each library and server, one row of calls on one
session; `talk.py` tells of reports."""
import asyncio
import hashlib
import http.client
import json
import sys
from urllib.parse import quote, urlsplit

SERVERS = dict(argument.split("=", 1) for argument in sys.argv[1:])
CALLS = [
    ("GET", "plain", None),
    ("POST", "echo", b'{"a": [1, 2, 3]}'),
    ("PUT", "echo", "pieces"),
    ("GET", "stream", None),
    ("HEAD", "plain", None),
    ("GET", "empty", None),
    ("GET", "missing", None),
    ("GET", "large", None),
]
PIECES = [b"first piece, ", b"second piece"]


def say(row, saw):
    print(json.dumps({"row": row, "at": "client", "saw": saw}), flush=True)


def shown(status, reason, headers, body):
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"{status} {reason}\r\n{lines}\r\n{len(body)} {hashlib.sha256(body).hexdigest()}"


def path(route, row):
    return f"/{route}?row={quote(row, safe=':')}"


def with_http_client(row, base):
    saw, connection = [], http.client.HTTPConnection(urlsplit(base).netloc, timeout=10)
    for method, route, body in CALLS:
        connection.request(method, path(route, row), PIECES if body == "pieces" else body, encode_chunked=body == "pieces",
                           headers={"Transfer-Encoding": "chunked"} if body == "pieces" else {})
        answer = connection.getresponse()
        saw.append(shown(answer.status, answer.reason, answer.getheaders(), answer.read()))
    say(row, saw)


def with_requests(row, base):
    import requests

    saw = []
    with requests.Session() as session:
        for method, route, body in CALLS:
            answer = session.request(method, base + path(route, row), data=iter(PIECES) if body == "pieces" else body)
            saw.append(shown(answer.status_code, answer.reason, answer.raw.headers.items(), answer.content))
    say(row, saw)


def with_httpx(row, base):
    import httpx

    saw = []
    with httpx.Client() as client:
        for method, route, body in CALLS:
            answer = client.request(method, base + path(route, row), content=iter(PIECES) if body == "pieces" else body)
            headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers.raw]
            saw.append(shown(answer.status_code, answer.reason_phrase, headers, answer.content))
    say(row, saw)


async def with_aiohttp(row, base):
    import aiohttp

    async def pieces():
        for piece in PIECES:
            yield piece

    saw = []
    async with aiohttp.ClientSession() as session:
        for method, route, body in CALLS:
            async with session.request(method, base + path(route, row), data=pieces() if body == "pieces" else body) as answer:
                headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.raw_headers]
                saw.append(shown(answer.status, answer.reason, headers, await answer.read()))
    say(row, saw)


async def giving_up(row, base):
    """A call that is cut, and one that the client gives up; upstream is asked whether it has noticed."""
    import aiohttp

    saw = []
    async with aiohttp.ClientSession() as session:
        for route in ("cut", "never"):
            try:
                async with session.get(base + path(route, row), timeout=aiohttp.ClientTimeout(total=0.5 if route == "never" else 10)) as answer:
                    await answer.read()
            except (aiohttp.ClientError, TimeoutError) as error:
                saw.append(f"{route}: {type(error).__name__}")
        async with session.get(base + path("gone", row)) as answer:
            saw.append(f"gone: {answer.status}")
    say(row, saw)


async def main():
    for server, base in SERVERS.items():
        with_http_client(f"http.client and {server}", base)
        with_requests(f"requests and {server}", base)
        with_httpx(f"httpx and {server}", base)
        await with_aiohttp(f"aiohttp and {server}", base)
        if server != "nginx":
            await giving_up(f"aiohttp gives up on {server}", base)


asyncio.run(main())
