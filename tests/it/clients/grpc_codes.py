#!/usr/bin/env python3
"""An ordinary grpcio client for the tests: `grpc_codes.py HOST:PORT` makes one unary call for each status that a server
can answer with, with metadata of its own, and prints what it sees."""
import sys

import grpc

with grpc.insecure_channel(sys.argv[1]) as channel:
    unary = channel.unary_unary("/test.Echo/Unary")
    for code in grpc.StatusCode:
        if code is not grpc.StatusCode.OK:
            try:
                unary(b"code:" + code.name.encode(), timeout=30, metadata=(("x-tenant", "a"), ("x-tenant", "b")))
            except grpc.RpcError as error:
                print(error.code(), error.details(), list(error.initial_metadata()), list(error.trailing_metadata()))
