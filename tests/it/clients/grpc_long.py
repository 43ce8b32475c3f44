#!/usr/bin/env python3
"""An ordinary grpcio client: keeps a stream open and makes unary calls beside it for two seconds."""
import queue
import sys
import time

import grpc

with grpc.insecure_channel(sys.argv[1]) as channel:
    unary = channel.unary_unary("/test.Echo/Unary")
    requests = queue.Queue()
    stream = channel.stream_stream("/test.Echo/Bidi")(iter(requests.get, None))
    requests.put(b"one")
    next(stream)
    answered, failed, until = 0, [], time.monotonic() + 2
    while time.monotonic() < until:
        try:
            unary(b"hello", timeout=5)
            answered += 1
        except grpc.RpcError as error:
            failed.append(f"{error.code()} {error.details()}")
    requests.put(None)
    print(f"{answered} answered, {len(failed)} failed", failed[:3])
