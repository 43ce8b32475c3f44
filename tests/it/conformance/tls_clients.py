#!/usr/bin/env python3
"""Python's clients over TLS: `tls_clients.py HOST PORT CERTIFICATE`; `talk.py` tells of reports."""
import hashlib
import http.client
import json
import socket
import ssl
import sys
from urllib.parse import quote

import httpx
import requests

HOST, PORT, CERTIFICATE = sys.argv[1:]
BASE = f"https://{HOST}:{PORT}"


def say(row, *saw):
    print(json.dumps({"row": row, "at": "client", "saw": saw}), flush=True)


def shown(status, body):
    return f"{status} {len(body)} {hashlib.sha256(body).hexdigest()}"


def raw(row, act):
    try:
        saw = act(row)
    except (ssl.SSLError, OSError) as error:
        saw = f"{type(error).__name__} {getattr(error, 'reason', '')}"
    say(row, str(saw))


def context(*alpn):
    made = ssl.create_default_context(cafile=CERTIFICATE)
    if alpn:
        made.set_alpn_protocols(alpn)
    return made


def handshake(made, name="tls.test"):
    def act(_):
        with made.wrap_socket(socket.create_connection((HOST, int(PORT))), server_hostname=name) as over:
            return f"{over.version()} {over.selected_alpn_protocol()}"

    return act


def plain(route, method="GET", body=None):
    def act(row):
        connection = http.client.HTTPSConnection(HOST, int(PORT), context=context(), timeout=10)
        connection.request(method, f"/{route}?row={quote(row)}", body)
        answer = connection.getresponse()
        try:
            return shown(answer.status, answer.read())
        except http.client.IncompleteRead as error:
            return f"incomplete {error.partial}"

    return act


old = context("http/1.1")
old.maximum_version = ssl.TLSVersion.TLSv1_2
wrong = ssl.create_default_context()
raw("TLS: http.client without ALPN", plain("plain"))
raw("TLS: http.client sends 1 MiB", plain("echo", "POST", bytes(1 << 20)))
raw("TLS: http.client hears 4 MiB", plain("large"))
raw("TLS: an answer that is cut", plain("cut"))
raw("TLS: version 1.2", handshake(old))
raw("TLS: version 1.3 with h2", handshake(context("h2")))
raw("TLS: a client that trusts nobody", handshake(wrong))
raw("TLS: a name that the certificate does not have", handshake(context(), "other.test"))
raw("TLS: no protocol in common", handshake(context("spdy/1")))
row = "TLS: requests on one connection"
with requests.Session() as session:
    answers = [session.get(f"{BASE}/{route}?row={quote(row)}", verify=CERTIFICATE) for route in ("plain", "large", "plain")]
say(row, *(shown(answer.status_code, answer.content) for answer in answers))
for version in (1, 2):
    row = f"TLS: httpx with HTTP {version}"
    with httpx.Client(verify=context(), http2=version == 2) as client:
        answers = [client.post(f"{BASE}/{route}?row={quote(row)}", content=b"body") for route in ("plain", "large")]
    say(row, *(shown(f"{answer.http_version} {answer.status_code}", answer.content) for answer in answers))
