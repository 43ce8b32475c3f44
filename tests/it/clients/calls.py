#!/usr/bin/env python3
"""An ordinary client for the tests: `calls.py LIBRARY URL` makes the same eight calls with requests, httpx or urllib3 and
prints all that it can see of the answers."""
import hashlib
import json
import sys

library, base = sys.argv[1:]


def pieces():
    yield b"first piece, "
    yield b"second piece"


CALLS = [
    ("GET", "/plain?x=1&key=secret", None),
    ("POST", "/echo", json.dumps({"a": [1, 2, 3]}).encode()),
    ("POST", "/echo", pieces),
    ("GET", "/stream", None),
    ("GET", "/status/404", None),
    ("HEAD", "/plain", None),
    ("GET", "/empty", None),
    ("GET", "/large", None),
]


def show(status, headers, body):
    print(status, json.dumps(list(headers)), len(body), hashlib.sha256(body).hexdigest())


if library == "requests":
    import requests

    with requests.Session() as session:
        for method, path, body in CALLS:
            answer = session.request(method, base + path, data=body() if callable(body) else body)
            show(answer.status_code, answer.raw.headers.items(), answer.content)
elif library == "httpx":
    import httpx

    with httpx.Client() as client:
        for method, path, body in CALLS:
            answer = client.request(method, base + path, content=body() if callable(body) else body)
            raw = [(name.decode(), value.decode()) for name, value in answer.headers.raw]
            show(f"{answer.http_version} {answer.status_code} {answer.reason_phrase}", raw, answer.content)
elif library == "urllib3":
    import urllib3

    with urllib3.PoolManager() as pool:
        for method, path, body in CALLS:
            chunked = callable(body)
            answer = pool.request(method, base + path, body=body() if chunked else body, chunked=chunked)
            show(f"{answer.status} {answer.reason}", answer.headers.items(), answer.data)
else:
    sys.exit(f"unknown library {library}")
