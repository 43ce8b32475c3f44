"""HTTP/1.1 as providers speak it, over TLS where a name has a certificate: requests read whole, answers written piece by
piece. With RECORD=FOLDER every exchange is kept as `<format>/<case>.request` and `.answer`: the head, an empty line, the
body without its chunks."""
import gzip
import itertools
import json
import os
import pathlib
import re
import socket
import ssl
import struct
import threading
import zlib


class Request:
    def __init__(self, name, head, read):
        self.name = name
        lines = head.decode("latin-1").split("\r\n")
        self.line = lines[0]
        self.method, self.target, _ = lines[0].split(" ")
        self.path = self.target.split("?")[0]
        self.headers = [line.split(": ", 1) for line in lines[1:-2]]
        self.body = b""
        if self.get("transfer-encoding") == "chunked":
            while size := int(read(b"\r\n").split(b";")[0], 16):
                self.body += read(size + 2)[:-2]
            read(b"\r\n")
        elif self.get("content-length"):
            self.body = read(int(self.get("content-length")))

    def get(self, name, default=""):
        return next((value for key, value in self.headers if key.lower() == name), default)

    def json(self):
        return json.loads(self.body) if self.body else {}


class Answer:
    """A status, headers and pieces that leave one by one. `end` is how it goes on: keep, cut (the body stays unfinished) or
    hold (nothing more comes until the client has gone)."""

    def __init__(self, status, headers, pieces, streamed=False, end="keep", kept=None):
        self.status, self.headers, self.pieces, self.streamed, self.end = status, headers, pieces, streamed, end
        self.kept = kept  # the format and the case that it is recorded as

    def head(self, framing):
        lines = "".join(f"{key}: {value}\r\n" for key, value in self.headers + framing)
        return f"HTTP/1.1 {self.status} {REASONS.get(self.status, 'What')}\r\n{lines}\r\n".encode("latin-1")

    def write(self, over):
        if not self.streamed:
            body = b"".join(self.pieces)
            over.sendall(self.head([("content-length", str(len(body)))]) + body)
            return
        over.sendall(self.head([("transfer-encoding", "chunked")]))
        for piece in self.pieces:
            over.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        if self.end == "keep":
            over.sendall(b"0\r\n\r\n")


def plain(request, status, data, headers=(), coding=None):
    """JSON, or bytes as they are."""
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    kind = "application/json" if not isinstance(data, bytes) else "text/html"
    body, more = encoded(request, [raw], coding)
    return Answer(status, [("content-type", kind), *headers, *more], body)


def streamed(request, pieces, kind="text/event-stream", headers=(), coding=None, end="keep"):
    body, more = encoded(request, pieces, coding)
    return Answer(200, [("content-type", kind), *headers, *more], body, True, end)


def encoded(request, pieces, coding):
    """The pieces in a coding that the client takes; each can be decoded as it comes."""
    if coding is None or coding not in request.get("accept-encoding"):
        return pieces, []
    packer = zlib.compressobj(wbits=31 if coding == "gzip" else 15)
    packed = [packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
    return [*packed, packer.flush()], [("content-encoding", coding)]


def sse(*events):
    """Events, each with a name or with none."""
    pieces = []
    for name, data in events:
        text = data if isinstance(data, str) else json.dumps(data)
        pieces.append(((f"event: {name}\n" if name else "") + f"data: {text}\n\n").encode())
    return pieces


def frame(kind, data, message="event"):
    """A frame of Amazon's event stream."""
    named = {"event": ":event-type", "exception": ":exception-type"}[message]
    pairs = ((named, kind), (":content-type", "application/json"), (":message-type", message))
    headers = b"".join(bytes([len(key)]) + key.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode() for key, value in pairs)
    payload = json.dumps(data, separators=(",", ":")).encode()
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    whole = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + payload
    return whole + struct.pack("!I", zlib.crc32(whole))


def serve(raw, name, context, route):
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        over = context.wrap_socket(raw, server_side=True) if context else raw
    except OSError:
        return
    buffer = b""

    def read(what):
        """That many bytes, or all until and with that mark."""
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
            request = Request(name, read(b"\r\n\r\n"), read)
            answer = route(request)
            answer.write(over)
            record(request, answer)
            if answer.end == "hold":
                while over.recv(65536):
                    pass
            if answer.end != "keep" or request.get("connection").lower() == "close":
                break
    except (OSError, EOFError):
        pass
    finally:
        over.close()


def listen(folder, name, address, port, route):
    context = None
    if port == 443:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pathlib.Path(folder) / f"{name}.pem")
        context.set_alpn_protocols(["http/1.1"])
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, port), family=family, backlog=128)

    def accept():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection, name, context, route), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def record(request, answer):
    if RECORD and answer.kept and worth_keeping(answer.kept[1]):
        lines = "".join(f"{key}: {hidden(key, value)}\r\n" for key, value in request.headers)
        keep(*answer.kept, f"{request.line}\r\n{lines}\r\n".encode("latin-1") + request.body, answer.head([]) + b"".join(answer.pieces))


def worth_keeping(case):
    """One of each kind; other generations of a library say mostly the same."""
    if re.search("async|hold-(gzip|deflate)|cut-gzip|stream-limited|limited-[^-]*-try-1", case):
        return False
    return not re.search("-(py2|ant0|node)", case) or re.match("(azure-|resp-)?(plain|stream-tools(-cache|-usage)?(-gzip)?)-[^-]*$", case)


def keep(format, case, request, answer):
    """Files of an exchange, numbered where a case has several."""
    folder = pathlib.Path(RECORD) / format
    folder.mkdir(parents=True, exist_ok=True)
    with RECORDING:
        name = next(name for number in itertools.count(1) if not (folder / f"{(name := case + (f'-{number}' if number > 1 else ''))}.request").exists())
        (folder / f"{name}.request").write_bytes(request)
        (folder / f"{name}.answer").write_bytes(answer)


def hidden(key, value):
    """A header's value without what is secret in it."""
    if key.lower() in ("x-api-key", "api-key", "x-goog-api-key"):
        return "REDACTED"
    if key.lower() == "authorization":
        if value.startswith("AWS4"):
            return re.sub(r"(Credential|Signature)=[^,]*", r"\1=REDACTED", value)
        return "Bearer REDACTED"
    return re.sub(r"os/linux#\S+", "os/linux", value)


RECORD = os.environ.get("RECORD")
RECORDING = threading.Lock()
REASONS = {200: "OK", 202: "Accepted", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
           429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable", 529: "Overloaded"}
