#!/usr/bin/env python3
"""grpcio's server: `grpc_origin.py PORT`; `talk.py` tells of reports. The row is in the metadata's `row`."""
import hashlib
import json
import signal
import sys
import threading
from concurrent import futures

import grpc

SAYING = threading.Lock()
GONE, CHANGED = {}, threading.Condition()


def say(row, *saw):
    with SAYING:
        print(json.dumps({"row": row, "at": "origin", "saw": saw}), flush=True)


def begin(context, method):
    metadata = context.invocation_metadata()
    row = dict(metadata)["row"]
    lines = "".join(f"{key}: {value}\r\n" for key, value in metadata)
    deadline = "with a deadline" if (context.time_remaining() or 1e9) < 1e6 else "without a deadline"
    say(row, f"POST /test.Row/{method} HTTP/2\r\n{lines}\r\n{deadline}")
    return row


def watch(row, context):
    """Waits for the end of a call that the client will end, which `begun` and `gone` tell of."""
    over = threading.Event()
    context.add_callback(over.set)
    with CHANGED:
        GONE[row] = over
        CHANGED.notify_all()
    over.wait(10)
    say(row, f"active: {context.is_active()}")


def begun(request, context):
    row = dict(context.invocation_metadata())["row"]
    with CHANGED:
        return b"begun" if CHANGED.wait_for(lambda: row in GONE, 10) else b"<TIMEOUT>"


def unary(request, context):
    row = begin(context, "Unary")
    say(row, f"{len(request)} {hashlib.sha256(request).hexdigest()}")
    if request.startswith(b"fail "):
        context.set_trailing_metadata((("x-why", "because"), ("x-why-bin", b"\0\xff")))
        context.abort(list(grpc.StatusCode)[int(request.split()[1])], "n\u00f6, not % today\n")
    context.send_initial_metadata((("x-initial", "1"), ("x-initial", "2"), ("x-bytes-bin", b"\0\1\xff")))
    context.set_trailing_metadata((("x-trailing", "yes"), ("x-trailing-bin", b"\xfe")))
    if request == b"compressed":
        context.set_compression(grpc.Compression.Gzip)
        return b"c" * 100000
    return request[::-1]


def gone(request, context):
    """Answers when the row's earlier call has ended on this side."""
    row = dict(context.invocation_metadata())["row"]
    return b"gone" if begun(request, context) == b"begun" and GONE[row].wait(10) else b"<TIMEOUT>"


def never(request, context):
    watch(begin(context, "Never"), context)
    return b""


def server_stream(request, context):
    row = begin(context, "ServerStream")
    kind, count = request.split()
    for index in range(int(count)):
        yield b"%d" % index
    if kind == b"abort":
        context.abort(grpc.StatusCode.DATA_LOSS, "in the middle")
    if kind == b"wait":
        watch(row, context)


def client_stream(requests, context):
    row = begin(context, "ClientStream")
    parts = list(requests)
    say(row, f"{len(parts)} {hashlib.sha256(b''.join(parts)).hexdigest()}")
    return b"%d" % len(parts)


def early(requests, context):
    """Answers after the first message of a client that would say more."""
    begin(context, "Early")
    next(requests)
    return b"enough"


def bidi(requests, context):
    row = begin(context, "Bidi")
    heard = 0
    try:
        for request in requests:
            heard += 1
            yield request[::-1]
    finally:
        say(row, f"heard {heard}")


KINDS = {"Begun": grpc.unary_unary_rpc_method_handler(begun), "Unary": grpc.unary_unary_rpc_method_handler(unary), "Never": grpc.unary_unary_rpc_method_handler(never),
         "Gone": grpc.unary_unary_rpc_method_handler(gone), "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
         "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream), "Early": grpc.stream_unary_rpc_method_handler(early),
         "Bidi": grpc.stream_stream_rpc_method_handler(bidi)}
server = grpc.server(futures.ThreadPoolExecutor(32), options=[("grpc.max_receive_message_length", 16 << 20),
                     ("grpc.http2.min_ping_interval_without_data_ms", 10), ("grpc.http2.max_ping_strikes", 0)])
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Row", KINDS),))
assert server.add_insecure_port(f"0.0.0.0:{sys.argv[1]}")
server.start()
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
print("listening", flush=True)
stop.wait()
server.stop(1).wait()
