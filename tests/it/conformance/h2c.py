#!/usr/bin/env python3
"""A server that accepts `Upgrade: h2c` (RFC 7540, section 3.2) with PyPI's `h2`: `h2c.py PORT`; `talk.py` tells of reports."""
import json
import socket
import sys
import threading
from urllib.parse import parse_qs, urlsplit

import h2.config
import h2.connection
import h2.events

SAYING = threading.Lock()


def say(row, *saw):
    with SAYING:
        print(json.dumps({"row": row, "at": "origin", "saw": saw}), flush=True)


def row_of(target):
    return parse_qs(urlsplit(target).query)["row"][0]


def serve(connection):
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return
        data += more
    text, _, rest = data.partition(b"\r\n\r\n")
    first, *lines = text.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    row = row_of(first.split()[1])
    say(row, text.decode() + "\r\n\r\n")
    connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    state.initiate_upgrade_connection(headers["http2-settings"].encode())

    def answer(stream, text):
        state.send_headers(stream, [(":status", "200"), ("content-length", str(len(text)))])
        state.send_data(stream, text.encode(), end_stream=True)

    answer(1, "upgraded")
    connection.sendall(state.data_to_send())
    bodies = {}
    while True:
        for event in state.receive_data(rest):
            if isinstance(event, h2.events.RequestReceived):
                pairs = [(name.decode(), value.decode()) for name, value in event.headers]
                bodies[event.stream_id] = [pairs, 0]
            elif isinstance(event, h2.events.DataReceived):
                bodies[event.stream_id][1] += len(event.data)
                state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                pairs, size = bodies.pop(event.stream_id)
                say(row, "".join(f"{name}: {value}\r\n" for name, value in pairs) + f"\r\n{size}")
                answer(event.stream_id, f"stream {size}")
        connection.sendall(state.data_to_send())
        rest = connection.recv(65536)
        if not rest:
            return


def guarded(connection):
    with connection:
        try:
            serve(connection)
        except OSError:
            pass


listener = socket.create_server(("0.0.0.0", int(sys.argv[1])))
print("listening", flush=True)
while True:
    accepted, _ = listener.accept()
    threading.Thread(target=guarded, args=(accepted,), daemon=True).start()
