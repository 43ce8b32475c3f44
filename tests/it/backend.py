"""A backend for spans: OTLP over HTTP/1.1 or gRPC, in TLS if given a certificate, with client certificates if given their
authority. Says each request in one line of JSON, its body as it came. SIGHUP reads the certificate again."""

import argparse
import base64
import json
import signal
import ssl
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
lock = threading.Lock()


def say(**call):
    with lock:
        print(json.dumps({"call": call}), flush=True)


def over_http(options):
    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            secure = isinstance(self.connection, ssl.SSLSocket)
            certificate = self.connection.getpeercert() if secure else None
            say(
                target=self.path,
                headers={name.lower(): value for name, value in self.headers.items()},
                body=base64.b64encode(body).decode(),
                client=certificate["subject"][0][0][1] if certificate else None,
                alpn=self.connection.selected_alpn_protocol() if secure else None,
            )
            self.send_response(options.status)
            self.send_header("content-length", "0")
            # The next batch then needs another handshake.
            self.send_header("connection", "close")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer((options.address, options.port), Door)
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["h2", "http/1.1"])

        def read(*_):
            context.load_cert_chain(options.certificate, options.key)

        read()
        if options.client_ca:
            context.load_verify_locations(options.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED

        def again(*_):
            read()
            print("certificate read again", flush=True)

        signal.signal(signal.SIGHUP, again)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    print("listening", flush=True)
    server.serve_forever()


def over_grpc(options):
    import grpc

    class Door(grpc.GenericRpcHandler):
        def service(self, details):
            return grpc.unary_unary_rpc_method_handler(self.export) if details.method == EXPORT else None

        def export(self, body, context):
            name = context.auth_context().get("x509_common_name")
            say(
                target=EXPORT,
                headers={key: value for key, value in context.invocation_metadata() if isinstance(value, str)},
                body=base64.b64encode(body).decode(),
                client=name[0].decode() if name else None,
            )
            return b""

    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[Door()])
    address = f"{options.address}:{options.port}"
    if options.certificate:
        def read(path):
            with open(path, "rb") as file:
                return file.read()

        pair = (read(options.key), read(options.certificate))
        authority = read(options.client_ca) if options.client_ca else None
        credentials = grpc.ssl_server_credentials([pair], authority, authority is not None)
        server.add_secure_port(address, credentials)
    else:
        server.add_insecure_port(address)
    server.start()
    print("listening", flush=True)
    server.wait_for_termination()


parser = argparse.ArgumentParser()
parser.add_argument("protocol", choices=["http", "grpc"])
parser.add_argument("address")
parser.add_argument("port", type=int)
parser.add_argument("--certificate")
parser.add_argument("--key")
parser.add_argument("--client-ca")
parser.add_argument("--status", type=int, default=200)
options = parser.parse_args()
(over_http if options.protocol == "http" else over_grpc)(options)
