#!/usr/bin/env python3
"""An ordinary grpcio client for the tests: `grpc_calls.py HOST:PORT` makes a unary call, one that fails, and a
bidirectional stream; prints all that it can see of the answers."""
import sys

import grpc


def show(call):
    print(list(call.initial_metadata()), call.code(), call.details(), list(call.trailing_metadata()))


with grpc.insecure_channel(sys.argv[1]) as channel:
    unary = channel.unary_unary("/test.Echo/Unary")
    answer, call = unary.with_call(b"hello" * 1000, timeout=30)
    print(answer == b"olleh" * 1000)
    show(call)
    try:
        unary(b"fail", timeout=30)
    except grpc.RpcError as error:
        show(error)
    stream = channel.stream_stream("/test.Echo/Bidi")(iter([b"one", b"two", b"three"]), timeout=30)
    print(list(stream))
    show(stream)
