#!/usr/bin/env python3
"""The cases of the Autobahn suite that a proxy can influence, played by PyPI's `websockets` (the suite itself needs Python
2). `websocket.py origin PORT`, or `websocket.py client SERVER=URL…`, with the server of `web.py aiohttp` too; `talk.py` tells
of reports."""
import hashlib
import json
import os
import signal
import sys
import threading
from urllib.parse import parse_qs, quote, urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import serve

SAYING = threading.Lock()


class Busy:
    """Counts connections."""

    def __init__(self):
        self.count, self.changed = 0, threading.Condition()

    def __enter__(self):
        with self.changed:
            self.count += 1

    def __exit__(self, *_):
        with self.changed:
            self.count -= 1
            self.changed.notify_all()

    def wait_for_none(self):
        with self.changed:
            self.changed.wait_for(lambda: not self.count, 3)


BUSY = Busy()


def say(row, at, *saw):
    with SAYING:
        print(json.dumps({"row": row, "at": at, "saw": saw}), flush=True)


def origin(port):
    def handle(connection):
        with BUSY:
            play(connection)

    def play(connection):
        request = connection.request
        row = parse_qs(urlsplit(request.path).query)["row"][0]
        headers = "".join(f"{name}: {value}\r\n" for name, value in request.headers.raw_items() if name != "Sec-WebSocket-Key")
        say(row, "origin", f"GET {request.path} HTTP/1.1\r\n{headers}\r\n")
        try:
            for message in connection:
                if isinstance(message, str) and message.startswith("close "):
                    connection.close(int(message.split()[1]), "as asked")
                elif isinstance(message, str) and message == "cut":
                    connection.socket.close()
                else:
                    connection.send(message)
        except (ConnectionClosed, OSError):
            pass
        say(row, "origin", f"closed {connection.close_code} {connection.close_reason}")

    def stop(*_):
        # What has ended at the client is still ending here, perhaps.
        threading.Thread(target=lambda: BUSY.wait_for_none() or os._exit(0)).start()

    signal.signal(signal.SIGTERM, stop)
    with serve(handle, "0.0.0.0", port, max_size=None) as server:
        print("listening", flush=True)
        server.serve_forever()


def shown(message):
    data = message.encode() if isinstance(message, str) else message
    return f"{type(message).__name__} {len(data)} {hashlib.sha256(data).hexdigest()}"


def exchange(*messages):
    def play(connection):
        for message in messages:
            connection.send(message)
            yield shown(connection.recv(10))

    return play


def ping(connection):
    for payload in (b"", b"p", bytes(125)):
        yield f"pong {connection.ping(payload).wait(10)}"


def closed_by_server(code):
    def play(connection):
        connection.send(f"close {code}")
        try:
            connection.recv(10)
        except ConnectionClosed as error:
            yield str(error)

    return play


def closed_by_client(code):
    def play(connection):
        connection.close(code, "enough")
        yield f"{connection.close_code} {connection.close_reason}"

    return play


def many(connection):
    for index in range(1000):
        connection.send(f"message {index}")
    for _ in range(1000):
        yield shown(connection.recv(10))


CASES = {
    "text of all sizes": exchange("", "a", "x" * 125, "x" * 126, "x" * 65535, "x" * 65536),
    "binary of all sizes": exchange(b"", b"\0", bytes(125), bytes(126), bytes(65535), bytes(65536)),
    "UTF-8 of one to four bytes": exchange("a", "\u00e9", "\u20ac", "\U0001f600", "\ufffe\uffff\u0000"),
    "fragments": exchange(["one", "", "two"], [b"\0", b"\1"], ["x"] * 100),
    "pings with payloads": ping,
    "a message of 4 MiB": exchange(bytes(range(256)) * 16384),
    "a thousand messages before any is read": many,
    **{f"the server closes with {code}": closed_by_server(code) for code in (1000, 1001, 1002, 1008, 1011, 3000, 4999)},
    **{f"the client closes with {code}": closed_by_client(code) for code in (1000, 1003, 1009, 4000)},
}


def client(servers):
    for server, base in (argument.split("=", 1) for argument in servers):
        for compression in (None, "deflate"):
            for case, play in CASES.items():
                row = f"WebSocket with {server}{', compressed' if compression else ''}: {case}"
                saw = []
                try:
                    with connect(f"{base}/websocket?row={quote(row, safe=':,')}", compression=compression, max_size=None, ping_interval=None) as connection:
                        answer = connection.response
                        lines = (f"{name}: {value}\r\n" for name, value in answer.headers.raw_items() if name != "Sec-WebSocket-Accept")
                        saw.append(f"{answer.status_code}\r\n{''.join(lines)}")
                        saw += play(connection)
                except Exception as error:
                    saw.append(f"{type(error).__name__} {error}")
                say(row, "client", *saw)


if __name__ == "__main__":
    if sys.argv[1] == "origin":
        origin(int(sys.argv[2]))
    else:
        client(sys.argv[2:])
