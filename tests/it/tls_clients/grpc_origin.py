#!/usr/bin/env python3
"""grpcio's server over TLS: `grpc_origin.py FOLDER NAME=ADDRESS`, on port 443 with NAME.pem. Says what it received, as internet.py does."""
import hashlib
import json
import pathlib
import signal
import sys
import threading
from concurrent import futures

import grpc

FOLDER, NAME, ADDRESS = pathlib.Path(sys.argv[1]), *sys.argv[2].split("=")
SAYING = threading.Lock()


def say(context, method, data, status):
    metadata = context.invocation_metadata()
    lines = "".join(f"{key}: {value}\r\n" for key, value in metadata)
    saw = f"POST /test.Echo/{method} HTTP/2\r\n{lines}\r\n{len(data)} {hashlib.sha256(data).hexdigest()}"
    given = [value for key, value in metadata if key == "traceparent"]
    call = {"host": NAME, "method": f"test.Echo/{method}", "code": status, "alpn": "h2", "version": "1.3", "traceparent": given}
    with SAYING:
        print(json.dumps({"row": dict(metadata)["x-row"], "at": "origin", "saw": [saw], "call": call}), flush=True)


def unary(request, context):
    failing = request == b"fail"
    say(context, "Unary", request, "FAILED_PRECONDITION" if failing else "OK")
    context.set_trailing_metadata((("x-trailing", "yes"),))
    if failing:
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "n\u00f6")
    return request[::-1]


def stream(request, context):
    say(context, "Stream", request, "OK")
    for index in range(10):
        yield b"%d" % index * 1000


def bidi(requests, context):
    say(context, "Bidi", b"", "OK")
    for request in requests:
        yield request[::-1]


server = grpc.server(futures.ThreadPoolExecutor(16))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {
    "Unary": grpc.unary_unary_rpc_method_handler(unary), "Stream": grpc.unary_stream_rpc_method_handler(stream),
    "Bidi": grpc.stream_stream_rpc_method_handler(bidi)}),))
both = (FOLDER / f"{NAME}.pem").read_bytes()
assert server.add_secure_port(f"{ADDRESS}:443", grpc.ssl_server_credentials([(both, both)]))
server.start()
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
print("listening", flush=True)
stop.wait()
server.stop(1).wait()
