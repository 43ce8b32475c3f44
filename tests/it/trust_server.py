"""An HTTPS server on loopback for each certificate (a PEM file with its key), which answers everything with an empty page."""

import http.server
import ssl
import sys
import threading


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


servers = []
for certificate in sys.argv[1:]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    # The handshake belongs to the connection's own thread: one that is refused must not hold up the others.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever).start()
    servers.append(server)
print("listening", *(server.server_port for server in servers), flush=True)
