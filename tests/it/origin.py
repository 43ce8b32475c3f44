#!/usr/bin/env python3
"""An ordinary server for the tests, in one of several modes; says what reached it as JSON lines, before it answers.

    origin.py http PORT            HTTP/1.1: the standard library's server
    origin.py http_at PORT HOST    the same on one address
    origin.py tls PORT CERTIFICATE the same over TLS
    origin.py grpc PORT [AGE]      grpcio: test.Echo/Unary and test.Echo/Bidi; a connection is let go after AGE ms
    origin.py greet PORT           speaks first, then repeats what it hears until it hears FIN
    origin.py sum PORT             says nothing until it hears FIN, then how much it heard
    origin.py swallow PORT         reads slowly, in small pieces, until it hears FIN or worse, and says nothing
    origin.py upgrade PORT         101 with the first bytes behind it, then repeats what it hears until it hears FIN
It listens on IPv4 and IPv6. The answer repeats what was received but for the trace headers, so that it must be the same
whether a proxy was on the way or not."""
import hashlib
import json
import socket
import ssl
import sys
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer

SAYING = threading.Lock()
TRACE = ("traceparent", "tracestate")


def say(**what):
    line = json.dumps({"call": what}, separators=(",", ":")) + "\n"
    with SAYING:
        sys.stdout.write(line)
        sys.stdout.flush()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def handle_one(self):
        length, chunked = self.headers.get("Content-Length"), self.headers.get("Transfer-Encoding") == "chunked"
        body = self.read_chunks() if chunked else self.rfile.read(int(length or 0))
        received = [[name, value] for name, value in self.headers.items()]
        say(path=self.path, method=self.command, version=self.request_version,
            traceparent=[value for name, value in received if name.lower() == "traceparent"],
            tracestate=[value for name, value in received if name.lower() == "tracestate"],
            headers=received, local=self.connection.getsockname()[:2], peer=self.client_address[0])
        route = self.path.split("?")[0]
        if route.startswith("/call/"):  # another server, with the context passed on, as an instrumented program would
            _, _, host, port = route.split("/")
            other = HTTPConnection(host, int(port), timeout=30)
            other.request("GET", "/plain", headers={name: value for name, value in received if name.lower() in TRACE})
            text = other.getresponse().read()
            self.start(200, [("Content-Length", str(len(text)))])
            self.wfile.write(text)
        elif route == "/cut":
            self.start(200, [("Content-Length", "1000")])
            self.wfile.write(b"only the beginning")
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif route == "/reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.close_connection = True
            self.rfile.close()
            self.connection.close()
        elif route == "/never":
            self.rfile.read(1)  # until the client goes
            say(path=route, gone=True)
            self.close_connection = True
        elif route == "/drops":  # without a word
            self.start(200, [("Content-Length", "2")])
            self.wfile.write(b"ok")
            self.close_connection = True
            self.wfile.flush()
        elif route == "/both":
            self.start(200, [("Transfer-Encoding", "chunked"), ("Content-Length", "2")])
            self.wfile.write(b"2\r\nok\r\n0\r\n\r\n")
        elif route == "/stream":
            self.start(200, [("Transfer-Encoding", "chunked"), ("Content-Type", "text/event-stream")])
            for part in (b"data: one\n\n", b"data: two\n\n", b"data: three\n\n", b""):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                self.wfile.flush()
        elif route == "/large":
            part = hashlib.sha256(b"large").digest() * 2048
            self.start(200, [("Content-Length", str(len(part) * 64))])
            for _ in range(64):
                self.wfile.write(part)
        elif route == "/empty":
            self.start(204, [("X-Empty", "yes")])
        else:
            status = int(route.rsplit("/", 1)[1]) if route.startswith("/status/") else 200
            kept = [pair for pair in received if pair[0].lower() not in TRACE]
            text = json.dumps({"method": self.command, "path": self.path, "headers": kept, "length": len(body),
                               "sha256": hashlib.sha256(body).hexdigest()}).encode()
            self.start(status, [("Content-Type", "application/json"), ("X-Mixed-Case", "Kept"), ("x-lower", "kept"),
                                ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Content-Length", str(len(text)))])
            if self.command != "HEAD":
                self.wfile.write(text)
        if not self.close_connection:
            self.wfile.flush()

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = do_PATCH = handle_one

    def handle_expect_100(self):
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def start(self, status, headers):
        self.send_response_only(status)
        if (self.headers.get("Connection") or "").lower() == "close" and self.path != "/stays":
            headers = [*headers, ("Connection", "close")]  # as RFC 9112, section 9.6 asks for
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
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        TCPServer.server_bind(self)  # HTTPServer's asks the name service for its own name, which no namespace here has


class Server6(Server):
    address_family = socket.AF_INET6


def http(port, certificate=None):
    servers = [Server(("0.0.0.0", port), Handler), Server6(("::", port), Handler)]
    for server in servers:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            context.set_alpn_protocols(["http/1.1"])
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()


def http_at(port, host):
    server = (Server6 if ":" in host else Server)((host, port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def grpc_server(port, age=None):
    from concurrent import futures

    import grpc

    def note(context, method):
        metadata = [(key, value) for key, value in context.invocation_metadata()]
        say(path=method, traceparent=[value for key, value in metadata if key == "traceparent"],
            tracestate=[value for key, value in metadata if key == "tracestate"],
            headers=[[key, value] for key, value in metadata if isinstance(value, str)])
        context.send_initial_metadata((("x-initial", "yes"),))
        context.set_trailing_metadata((("x-trailing", "yes"), ("x-bytes-bin", b"\0\1\2")))

    def unary(request, context):
        note(context, "/test.Echo/Unary")
        if request == b"fail":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "nö, not today")
        if request.startswith(b"code:"):
            context.abort(grpc.StatusCode[request[5:].decode()], "as you wish")
        return request[::-1]

    def bidi(requests, context):
        note(context, "/test.Echo/Bidi")
        for request in requests:
            yield request[::-1]
            yield request

    handlers = {"Unary": grpc.unary_unary_rpc_method_handler(unary), "Bidi": grpc.stream_stream_rpc_method_handler(bidi)}
    ages = [("grpc.max_connection_age_ms", int(age)), ("grpc.max_connection_age_grace_ms", 20000)] if age else []
    server = grpc.server(futures.ThreadPoolExecutor(8), options=ages)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    assert server.add_insecure_port(f"[::]:{port}")
    server.start()
    return server


def raw(port, conversation):
    def accept(listener):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    def serve(connection):
        with connection:
            try:
                conversation(connection)
            except OSError as error:
                say(error=type(error).__name__)

    listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)  # so that a sender has to wait for us
    threading.Thread(target=accept, args=(listener,), daemon=True).start()


def echo(connection):
    heard = 0
    while data := connection.recv(65536):
        heard += len(data)
        connection.sendall(data)
    say(heard=heard)


def greet(connection):
    connection.sendall(b"220 at your service\r\n")
    echo(connection)


def total(connection):
    digest, heard = hashlib.sha256(), 0
    while data := connection.recv(65536):
        digest.update(data)
        heard += len(data)
    connection.sendall(f"{heard} {digest.hexdigest()}\n".encode())


def swallow(connection):
    heard = 0
    while data := connection.recv(16384):
        heard += len(data)
    say(heard=heard)


def upgrade(connection):
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(65536)
    say(traceparent=[line for line in head.decode().split("\r\n") if line.lower().startswith("traceparent")])
    connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello")
    echo(connection)


if __name__ == "__main__":
    mode, port, *rest = sys.argv[1:]
    conversations = {"greet": greet, "sum": total, "swallow": swallow, "upgrade": upgrade}
    if mode in conversations:
        kept = raw(int(port), conversations[mode])
    elif mode == "http_at":
        kept = http_at(int(port), *rest)
    elif mode == "grpc":
        kept = grpc_server(int(port), *rest)
    else:
        kept = http(int(port), *rest)
    print("listening", flush=True)
    threading.Event().wait()
