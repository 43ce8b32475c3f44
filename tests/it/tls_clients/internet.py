#!/usr/bin/env python3
"""Servers of HTTP/1.1 over TLS behind real names: `internet.py FOLDER NAME=ADDRESS…`, each on port 443 with NAME.pem.

Says for every request what it received, as one line of JSON: the head as it came, the digest of the body as it came (chunks
and all), which request of its connection it is, SNI and ALPN; and beside it what the span of that call must say. Only what a
client makes anew for each call is struck out: Amazon's signature, after it was found valid."""
import gzip
import hashlib
import hmac
import json
import pathlib
import re
import signal
import socket
import ssl
import sys
import threading
from urllib.parse import quote

import streams

SAYING = threading.Lock()
SECRET = "secret"  # of the client that signs


def say(**what):
    with SAYING:
        print(json.dumps({**what}), flush=True)


class Request:
    def __init__(self, name, head, read):
        self.name, self.raw = name, head
        lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = lines[0].split(" ")
        self.path = self.target.split("?")[0]
        self.headers = [line.split(": ", 1) for line in lines[1:-2]]
        self.wire = self.body = b""
        if self.get("transfer-encoding") == "chunked":
            while True:
                line = read(b"\r\n")
                self.wire += line
                size = int(line.split(b";")[0], 16)
                data = read(size + 2) if size else b""
                self.wire, self.body = self.wire + data, self.body + data[:-2]
                if size == 0:
                    break
            while True:
                line = read(b"\r\n")
                self.wire += line
                if line == b"\r\n":
                    break
        elif self.get("content-length"):
            self.wire = self.body = read(int(self.get("content-length")))

    def get(self, name, default=""):
        return next((value for key, value in self.headers if key.lower() == name), default)

    def all(self, name):
        return [value for key, value in self.headers if key.lower() == name]

    def row(self):
        return self.get("x-row") or self.path.split("/")[2].split(".")[0]

    def told(self):
        """The head as it came, but for what differs from call to call."""
        text = self.raw.decode("latin-1")
        if "AWS4-HMAC-SHA256" in text:
            text += f"the signature is {'valid' if self.signed() else 'NOT VALID'}\r\n"
            text = re.sub(r"(?im)^(amz-sdk-invocation-id|x-amz-date|authorization): [^\r]*", r"\1: …", text)
        return text

    def signed(self):
        """Amazon's Signature Version 4, made again from what has arrived."""
        parts = dict(re.findall(r"(\w+)=([^,\s]+)", self.get("authorization")))
        names, scope = parts["SignedHeaders"].split(";"), parts["Credential"].split("/", 1)[1]
        service = scope.split("/")[2]
        lines = "".join(f"{name}:{','.join(' '.join(value.split()) for value in self.all(name))}\n" for name in names)
        payload = self.get("x-amz-content-sha256") or hashlib.sha256(self.body).hexdigest()
        path = self.path if service == "s3" else quote(self.path, safe="/~")
        query = self.target.partition("?")[2]
        asked = "\n".join([self.method, path, query, lines, ";".join(names), payload])
        text = "\n".join(["AWS4-HMAC-SHA256", self.get("x-amz-date"), scope, hashlib.sha256(asked.encode()).hexdigest()])
        key = ("AWS4" + SECRET).encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest() == parts["Signature"]


class Answer:
    """A status, headers, and pieces that leave one by one; `end` is how the connection goes on: keep, cut or notify."""

    def __init__(self, status, headers, pieces, framing="length", end="keep"):
        self.status, self.headers, self.pieces, self.framing, self.end = status, headers, pieces, framing, end

    def parts(self, bodyless):
        framing = {"length": [("content-length", str(sum(map(len, self.pieces))))], "chunked": [("transfer-encoding", "chunked")],
                   "short": [("content-length", "1000")], "close": [("connection", "close")]}[self.framing]
        head = "".join(f"{key}: {value}\r\n" for key, value in self.headers + framing)
        yield f"HTTP/1.1 {self.status} What\r\n{head}\r\n".encode("latin-1")
        for piece in () if bodyless else self.pieces:
            yield b"%x\r\n%s\r\n" % (len(piece), piece) if self.framing == "chunked" else piece
        if self.framing == "chunked" and self.end == "keep":
            yield b"0\r\n\r\n"


def plain(status, data, *headers):
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    return Answer(status, [("content-type", "application/json"), ("x-request-id", "req_1"), *headers], [body])


def zipped(request, data):
    """As providers answer: gzip for whoever takes it."""
    if "gzip" not in request.get("accept-encoding"):
        return plain(200, data)
    return Answer(200, [("content-type", "application/json"), ("content-encoding", "gzip")], [gzip.compress(json.dumps(data).encode(), mtime=0)])


def stream(pieces, kind="text/event-stream", model=""):
    headers = [("content-type", kind), ("x-request-id", "req_1")]
    if model.startswith("cut"):  # "cut" and "cut-notify"
        return Answer(200, headers, pieces[:3], "chunked", "notify" if model.endswith("notify") else "cut")
    if model == "zipped":
        packer = __import__("zlib").compressobj(wbits=31)
        pieces = [packer.compress(piece) + packer.flush(2) for piece in pieces] + [packer.flush()]
        headers.append(("content-encoding", "gzip"))
    return Answer(200, headers, pieces, "chunked")


def provider(request):
    asked = json.loads(request.body) if request.body else {}
    model, retries = asked.get("model", ""), int(request.get("x-stainless-retry-count", "0"))
    if model == "limited" and retries < 2:
        return plain(429, {"error": {"type": "rate_limit_error", "message": "slowly"}}, ("retry-after-ms", "1"))
    if model == "refused":
        return plain(401, {"error": {"type": "authentication_error", "message": "no"}})
    if request.path.endswith("/chat/completions"):
        return stream(streams.CHAT_STREAM, model=model) if asked.get("stream") else zipped(request, streams.CHAT)
    if request.path.endswith("/responses"):
        return stream(streams.RESPONSE_STREAM, model=model)
    if request.path.endswith("/messages"):
        return stream(streams.MESSAGE_STREAM, model=model) if asked.get("stream") else zipped(request, streams.MESSAGE)
    return plain(404, {"error": {"message": "no such path"}})


def amazon(request):
    kind = "application/vnd.amazon.eventstream"
    if request.path.endswith("/converse"):
        return plain(200, streams.CONVERSE)
    if request.path.endswith("/converse-stream"):
        return stream(streams.CONVERSE_STREAM, kind)
    if request.path.endswith("/invoke-with-response-stream"):
        return stream(streams.INVOKE_STREAM, kind)
    return Answer(200, [("etag", '"x"')], [])


def ordinary(request):
    route = request.path.split("/")[1]
    endings = {"short-cut": ("short", "cut"), "short-notify": ("short", "notify"), "cut": ("close", "cut"), "notify": ("close", "notify")}
    if route in endings:
        return Answer(200, [("content-type", "text/plain")], [b"only ", b"the beginning"], *endings[route])
    if route == "large":
        return Answer(200, [], [b"l" * 65536] * 64)
    if route == "stream":
        return stream(streams.CHAT_STREAM)
    if route == "status":
        return plain(int(request.path.split("/")[2]), {"status": request.path})
    return plain(200, {"method": request.method, "path": request.target, "body": hashlib.sha256(request.body).hexdigest()})


ROUTES = {"api.openai.com": provider, "api.anthropic.com": provider, "amazonaws.com": amazon}


def serve(raw, name, context):
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        over = context.wrap_socket(raw, server_side=True)
    except OSError as error:
        say(failed=f"{name}: {error}")
        return
    buffer, number = b"", 0

    def read(what):
        """That many bytes, or all until and with that mark; `None` where nothing more comes."""
        nonlocal buffer
        while (len(buffer) < what) if isinstance(what, int) else (what not in buffer):
            more = over.recv(65536)
            if not more:
                raise EOFError
            buffer += more
        size = what if isinstance(what, int) else buffer.index(what) + len(what)
        taken, buffer = buffer[:size], buffer[size:]
        return taken

    try:
        while True:
            head = read(b"\r\n\r\n")
            if b"100-continue" in head.lower():
                over.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            request = Request(name, head, read)
            number += 1
            answer = next((route for end, route in ROUTES.items() if name.endswith(end)), ordinary)(request)
            digest = f"{len(request.wire)} {hashlib.sha256(request.wire).hexdigest()}"
            row, alpn, version = request.row(), over.selected_alpn_protocol(), over.version().removeprefix("TLSv")
            # Whether undici keeps a connection whose answer OpenAI's client has not read is chance.
            which = "" if row == "node openai" else f"request {number} "
            say(row=row, at="origin", saw=[f"{request.told()}{digest} {which}ALPN {alpn} TLS {version}"],
                call={"host": name, "target": request.target, "status": answer.status, "alpn": alpn, "version": version,
                      "traceparent": request.all("traceparent")})
            for part in answer.parts(request.method == "HEAD" or answer.status in (204, 304)):
                over.sendall(part)
            if answer.end != "keep" or answer.framing == "close" or request.get("connection").lower() == "close":
                break
        if answer.end != "cut":
            say_goodbye(over)
    except (OSError, EOFError, ValueError):
        pass
    finally:
        over.close()


def say_goodbye(over):
    """close_notify, then FIN, then what the other has left to say."""
    over.setblocking(False)
    try:
        over.unwrap()
    except ssl.SSLWantReadError:
        pass
    over.setblocking(True)
    over.settimeout(10)
    over.shutdown(socket.SHUT_WR)
    while over.recv(65536):
        pass


def listen(folder, name, address):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem")
    context.set_alpn_protocols(["http/1.1"])
    listener = socket.create_server((address, 443), family=socket.AF_INET6 if ":" in address else socket.AF_INET, backlog=128)

    def accept():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection, name, context), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


signal.signal(signal.SIGTERM, signal.SIG_DFL)
for pair in sys.argv[2:]:
    listen(pathlib.Path(sys.argv[1]), *pair.split("="))
print("listening", flush=True)
signal.pause()
