#!/usr/bin/env python3
"""Real HTTP servers of Python's: `web.py aiohttp PORT` or `web.py stdlib PORT` (http.server); `talk.py` tells of reports. The
row's name is the query's `row`. Routes: /plain /echo /stream /empty /missing /large /cut /never and /gone, which answers as
soon as the client of that row's /never has left."""
import asyncio
import hashlib
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from urllib.parse import parse_qs, urlsplit

LARGE = hashlib.sha256(b"large").digest() * 131072
EVENTS = [b"data: one\n\n", b"data: two\n\n", b"data: three\n\n"]
SAYING = threading.Lock()


def say(row, *saw):
    with SAYING:
        print(json.dumps({"row": row, "at": "origin", "saw": saw}), flush=True)


def head_and_body(first_line, headers, body):
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"{first_line}\r\n{lines}\r\n{len(body)} {hashlib.sha256(body).hexdigest()}"


def row_of(target):
    return parse_qs(urlsplit(target).query)["row"][0]


def with_aiohttp(port):
    from aiohttp import WSMsgType, web

    gone = {}

    async def websocket(request):
        row, socket = row_of(request.raw_path), web.WebSocketResponse(autoping=False, max_msg_size=0)
        await socket.prepare(request)
        async for message in socket:
            if message.type == WSMsgType.TEXT and message.data.startswith("close "):
                await socket.close(code=int(message.data.split()[1]), message=b"as asked")
            elif message.type == WSMsgType.TEXT:
                await socket.send_str(message.data)
            elif message.type == WSMsgType.BINARY:
                await socket.send_bytes(message.data)
            elif message.type == WSMsgType.PING:
                await socket.pong(message.data)
        say(row, f"websocket closed {socket.close_code}")
        return socket

    async def handle(request):
        row, route = row_of(request.raw_path), request.path
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers
                   if name.lower() != b"sec-websocket-key"]
        version = f"{request.version.major}.{request.version.minor}"
        try:
            body = await request.read()
        except Exception as error:
            say(row, f"{request.method} {route} broke: {type(error).__name__}")
            raise
        say(row, head_and_body(f"{request.method} {request.raw_path} HTTP/{version}", headers, body))
        if route == "/websocket":
            return await websocket(request)
        if route == "/never":
            gone[row] = asyncio.Event()
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                gone[row].set()
                raise
        if route == "/gone":
            async with asyncio.timeout(10):
                while row not in gone:
                    await asyncio.sleep(0.01)
                await gone[row].wait()
        if route == "/stream":
            answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            answer.enable_chunked_encoding()
            await answer.prepare(request)
            for event in EVENTS:
                await answer.write(event)
            return answer
        if route == "/cut":
            answer = web.StreamResponse(headers={"Content-Length": "1000"})
            await answer.prepare(request)
            await answer.write(b"only the beginning")
            request.transport.close()
            return answer
        if route == "/large":
            return web.Response(body=LARGE)
        if route == "/empty":
            return web.Response(status=204, headers={"X-Empty": "yes"})
        if route == "/missing":
            return web.Response(status=404, reason="not here", text="no")
        text = f"{request.method} {len(body)} {hashlib.sha256(body).hexdigest()}"
        return web.Response(text=text, headers={"X-Mixed-Case": "Kept", "x-lower": "kept"})

    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/{tail:.*}", handle)
    web.run_app(app, port=port, print=lambda *_: print("listening", flush=True), handler_cancellation=True, access_log=None)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    gone = {}

    def handle_one(self):
        row, route = row_of(self.path), urlsplit(self.path).path
        length, chunked = self.headers.get("Content-Length"), self.headers.get("Transfer-Encoding") == "chunked"
        body = self.read_chunks() if chunked else self.rfile.read(int(length or 0))
        say(row, head_and_body(self.requestline, self.headers.items(), body))
        event = self.gone.setdefault(row, threading.Event())
        if route == "/never":
            self.rfile.read(1)  # until the client goes
            event.set()
            self.close_connection = True
            return
        if route == "/gone":
            event.wait(10)
        if route == "/stream":
            self.start(200, ("Transfer-Encoding", "chunked"), ("Content-Type", "text/event-stream"))
            for part in [*EVENTS, b""]:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                self.wfile.flush()
        elif route == "/cut":
            self.start(200, ("Content-Length", "1000"))
            self.wfile.write(b"only the beginning")
            self.close_connection = True
        elif route == "/large":
            self.start(200, ("Content-Length", str(len(LARGE))))
            self.wfile.write(LARGE)
        elif route == "/empty":
            self.start(204, ("X-Empty", "yes"))
        else:
            text = f"{self.command} {len(body)} {hashlib.sha256(body).hexdigest()}".encode()
            self.start(404 if route == "/missing" else 200, ("Set-Cookie", "a=1"), ("x-lower", "kept"), ("Set-Cookie", "b=2"),
                       ("Content-Length", str(len(text))))
            if self.command != "HEAD":
                self.wfile.write(text)
        self.wfile.flush()

    do_GET = do_POST = do_PUT = do_HEAD = handle_one

    def start(self, status, *headers):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()

    def read_chunks(self):
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_):
        pass

    def server_bind(self):
        TCPServer.server_bind(self)  # HTTPServer's asks the name service for its own name, which no namespace here has


if __name__ == "__main__":
    library, port = sys.argv[1:]
    if library == "aiohttp":
        with_aiohttp(int(port))
    else:
        server = Server(("0.0.0.0", int(port)), Handler)
        print("listening", flush=True)
        server.serve_forever()
