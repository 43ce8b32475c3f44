"""A proxy as companies have them: CONNECT tunnels, and plain requests in absolute form; wants credentials if given some.
Says each request in one line of JSON."""

import base64
import json
import socket
import sys
import threading

address, port, credentials = sys.argv[1], int(sys.argv[2]), (sys.argv[3:] or [None])[0]


def head_of(stream):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = stream.recv(1)
        if not byte:
            return None
        head += byte
    return head.decode("latin-1")


def copy(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def serve(client):
    head = head_of(client)
    if head is None:
        return
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
    print(json.dumps({"call": {"request": f"{method} {target}"}}), flush=True)
    wanted = credentials and "Basic " + base64.b64encode(credentials.encode()).decode()
    if wanted and headers.pop("proxy-authorization", None) != wanted:
        client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        client.close()
        return
    if method == "CONNECT":
        host, _, number = target.rpartition(":")
        upstream = socket.create_connection((host.strip("[]"), int(number)))
        # What the backend says at once comes in the same segment as our answer.
        upstream.settimeout(0.2)
        try:
            early = upstream.recv(65536)
        except TimeoutError:
            early = b""
        upstream.settimeout(None)
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n" + early)
    else:
        authority, _, path = target.removeprefix("http://").partition("/")
        host, _, number = authority.partition(":")
        upstream = socket.create_connection((host, int(number or 80)))
        kept = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        upstream.sendall(f"{method} /{path} HTTP/1.1\r\n{kept}\r\n".encode("latin-1"))
    threading.Thread(target=copy, args=(client, upstream), daemon=True).start()
    copy(upstream, client)


server = socket.create_server((address, port))
print("listening", flush=True)
while True:
    connection, _ = server.accept()
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
