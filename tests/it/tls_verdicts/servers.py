#!/usr/bin/env python3
"""Servers of every kind, good and bad: `servers.py FOLDER`. FOLDER/cases.json: [[name, host, port, server, kinds of clients]…]; a server is
    {"raw": HOW}: reset, close, http, greet, garbage, or the two bytes of an alert in hexadecimals
    {"certificate": NAME, …}: of TLS, with `versions` [lowest, highest], `ciphers`, `dh`, `curve`, `client` (required, optional),
    `named` (who names no server is refused)
It answers one request a connection and says what it received; the row is in the header `x-row`."""
import json
import pathlib
import signal
import socket
import ssl
import struct
import sys
import threading

FOLDER = pathlib.Path(sys.argv[1])
SAYING = threading.Lock()
VERSIONS = {"1.0": ssl.TLSVersion.TLSv1, "1.1": ssl.TLSVersion.TLSv1_1, "1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def answer(connection, server):
    if how := server.get("raw"):
        if how == "greet":
            connection.sendall(b"220 hello\r\n")
        connection.recv(16384)
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        said = {"http": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "close": b"", "greet": b"",
                "garbage": bytes(range(200, 256)) * 20}
        connection.sendall(said[how] if how in said else b"\x15\x03\x03\x00\x02" + bytes.fromhex(how))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(16384):
            pass
        return
    with server["context"].wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as over:
        try:
            over.do_handshake()
        except ssl.SSLError:  # whose alert the client must be able to hear
            over.shutdown(socket.SHUT_WR)
            while over.recv(16384):
                pass
            return
        head = b""
        while b"\r\n\r\n" not in head:
            more = over.recv(16384)
            if not more:
                return
            head += more
        text = head.decode("latin-1")
        row = next((line[7:] for line in text.split("\r\n") if line.lower().startswith("x-row: ")), "")
        shown = over.getpeercert()
        with SAYING:
            print(json.dumps({"row": row, "at": "origin", "saw": [f"{text}a client's certificate: {bool(shown)}"]}), flush=True)
        over.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        # close_notify, then FIN, then what the other has left to say.
        over.setblocking(False)
        try:
            over.unwrap()
        except ssl.SSLWantReadError:
            pass
        over.settimeout(20)
        over.shutdown(socket.SHUT_WR)
        while over.recv(16384):
            pass


def context(server):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version, made.maximum_version = (VERSIONS[version] for version in server.get("versions", ["1.2", "1.3"]))
    made.set_ciphers(server.get("ciphers", "DEFAULT") + ":@SECLEVEL=0")
    for name in [server["certificate"]] + server.get("also", []):
        made.load_cert_chain(FOLDER / f"{name}.pem")
    if "dh" in server:
        made.load_dh_params(FOLDER / f"{server['dh']}.pem")
    if "curve" in server:
        made.set_ecdh_curve(server["curve"])
    if "client" in server:
        made.verify_mode = ssl.CERT_REQUIRED if server["client"] == "required" else ssl.CERT_OPTIONAL
        made.load_verify_locations(FOLDER / "root.crt")
    if server.get("named"):
        made.sni_callback = lambda over, name, made: None if name else ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    made.set_alpn_protocols(["http/1.1"])
    return made


def serve(port, server):
    listener = socket.create_server(("0.0.0.0", port), backlog=128)

    def one(connection):
        connection.settimeout(20)
        try:
            answer(connection, server)
        except OSError:
            pass
        finally:
            connection.close()

    def accept():
        while True:
            threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


for _, _, port, server, _ in json.loads((FOLDER / "cases.json").read_text()):
    if "node" not in server:
        if "certificate" in server:
            server["context"] = context(server)
        serve(port, server)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
print("listening", flush=True)
signal.pause()
