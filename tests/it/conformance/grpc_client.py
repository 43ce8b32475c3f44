#!/usr/bin/env python3
"""grpcio's client: `grpc_client.py HOST:PORT` plays each row on a channel of its own; `talk.py` tells of reports."""
import hashlib
import json
import sys
import threading

import grpc

ADDRESS = sys.argv[1]
LIMITS = [("grpc.max_receive_message_length", 16 << 20), ("grpc.use_local_subchannel_pool", 1)]
ROWS = {}


def row(name, *options, compression=None):
    def keep(play):
        ROWS[name] = (play, options, compression)
        return play

    return keep


class Talk:
    def __init__(self, name, channel):
        self.name, self.channel, self.saw = name, channel, []
        self.metadata = (("row", name),)

    def method(self, kind, name):
        return getattr(self.channel, kind)(f"/test.Row/{name}")

    def show(self, call, body=b""):
        self.saw.append(f"{len(body)} {hashlib.sha256(body).hexdigest()}")
        # Whether the two ends' clocks or the server's RST_STREAM came first is chance.
        details = "" if call.code() == grpc.StatusCode.DEADLINE_EXCEEDED else call.details()
        self.saw.append(str([list(call.initial_metadata()), call.code(), details, list(call.trailing_metadata())]))

    def unary(self, request, metadata=(), name="Unary", **more):
        try:
            body, call = self.method("unary_unary", name).with_call(request, metadata=(*self.metadata, *metadata), **{"timeout": 10, **more})
            self.show(call, body)
        except grpc.RpcError as error:
            self.show(error)

    def gone(self):
        self.saw.append(str(self.method("unary_unary", "Gone")(b"", metadata=self.metadata, timeout=15)))

    def drain(self, call):
        parts = []
        try:
            for part in call:
                parts.append(part)
        except grpc.RpcError:
            pass
        self.saw.append(f"{len(parts)} messages")
        self.show(call, b"".join(parts))


@row("grpc: a unary call")
def _(talk):
    talk.unary(b"hello")


@row("grpc: empty messages")
def _(talk):
    talk.unary(b"")


@row("grpc: metadata, repeated and binary")
def _(talk):
    talk.unary(b"x", (("x-a", "1"), ("x-b", "2"), ("x-a", "3"), ("x-bin", b"\0\xff\1"), ("x-long", "l" * 5000)))


for _code in range(1, 17):
    @row(f"grpc: status {_code} as trailers only")
    def _(talk, code=_code):
        talk.unary(b"fail %d" % code)


@row("grpc: a method that nobody has")
def _(talk):
    talk.unary(b"x", name="Nothing")


@row("grpc: 8 MiB up and down")
def _(talk):
    talk.unary(bytes(8 << 20))


@row("grpc: an answer larger than the client takes", ("grpc.max_receive_message_length", 1000))
def _(talk):
    talk.unary(b"x" * 2000)


@row("grpc: a request compressed with gzip", compression=grpc.Compression.Gzip)
def _(talk):
    talk.unary(b"words and " * 10000)


@row("grpc: a request compressed with deflate", compression=grpc.Compression.Deflate)
def _(talk):
    talk.unary(b"words and " * 10000)


@row("grpc: an answer compressed with gzip")
def _(talk):
    talk.unary(b"compressed")


@row("grpc: a deadline that passes")
def _(talk):
    talk.unary(b"x", name="Never", timeout=0.4)
    talk.gone()


@row("grpc: a call that the client cancels")
def _(talk):
    call = talk.method("unary_unary", "Never").future(b"x", metadata=talk.metadata, timeout=10)
    talk.method("unary_unary", "Begun")(b"", metadata=talk.metadata, timeout=15)
    call.cancel()
    talk.saw.append(f"{call.code()} {call.cancelled()}")
    talk.gone()


@row("grpc: a stream of the server's")
def _(talk):
    talk.drain(talk.method("unary_stream", "ServerStream")(b"end 1000", metadata=talk.metadata, timeout=10))


@row("grpc: a stream of the server's without messages")
def _(talk):
    talk.drain(talk.method("unary_stream", "ServerStream")(b"end 0", metadata=talk.metadata, timeout=10))


@row("grpc: a stream of the server's that it aborts")
def _(talk):
    talk.drain(talk.method("unary_stream", "ServerStream")(b"abort 3", metadata=talk.metadata, timeout=10))


@row("grpc: a stream of the server's that the client cancels")
def _(talk):
    call = talk.method("unary_stream", "ServerStream")(b"wait 3", metadata=talk.metadata, timeout=10)
    talk.saw += [str(next(call)) for _ in range(3)]
    call.cancel()
    talk.saw.append(str(call.code()))
    talk.gone()


@row("grpc: a stream of the server's whose deadline passes")
def _(talk):
    talk.drain(talk.method("unary_stream", "ServerStream")(b"wait 3", metadata=talk.metadata, timeout=0.4))
    talk.gone()


@row("grpc: a stream of the client's")
def _(talk):
    body, call = talk.method("stream_unary", "ClientStream").with_call((b"%d" % index for index in range(500)), metadata=talk.metadata, timeout=10)
    talk.show(call, body)


@row("grpc: a stream of the client's without messages")
def _(talk):
    body, call = talk.method("stream_unary", "ClientStream").with_call(iter(()), metadata=talk.metadata, timeout=10)
    talk.show(call, body)


@row("grpc: a stream of the client's that is answered early")
def _(talk):
    answered = threading.Event()

    def requests():
        yield b"first"
        answered.wait(10)

    body, call = talk.method("stream_unary", "Early").with_call(requests(), metadata=talk.metadata, timeout=10)
    answered.set()
    talk.show(call, body)


@row("grpc: both sides in turn")
def _(talk):
    heard = threading.Semaphore()

    def requests():
        for index in range(20):
            heard.acquire(timeout=10)
            yield b"message %d" % index

    call = talk.method("stream_stream", "Bidi")(requests(), metadata=talk.metadata, timeout=20)
    for part in call:
        talk.saw.append(str(part))
        heard.release()
    talk.show(call)


@row("grpc: two hundred messages of 64 KiB both ways")
def _(talk):
    talk.drain(talk.method("stream_stream", "Bidi")((bytes([index]) * 65536 for index in range(200)), metadata=talk.metadata, timeout=20))


@row("grpc: keepalive while a call is long", ("grpc.keepalive_time_ms", 100), ("grpc.keepalive_timeout_ms", 5000), ("grpc.keepalive_permit_without_calls", 1), ("grpc.http2.max_pings_without_data", 0))
def _(talk):
    talk.unary(b"x", name="Never", timeout=1)
    talk.gone()


@row("grpc: fifty calls at once")
def _(talk):
    calls = [talk.method("unary_unary", "Unary").future(b"same", metadata=talk.metadata, timeout=20) for _ in range(50)]
    talk.saw += sorted(str(call.result()) for call in calls)


@row("grpc: an authority of its own", ("grpc.default_authority", "other.example:1"))
def _(talk):
    talk.unary(b"x")


for name, (play, options, compression) in ROWS.items():
    limits = [limit for limit in LIMITS if limit[0] not in dict(options)]
    with grpc.insecure_channel(ADDRESS, options=[*limits, *options], compression=compression) as channel:
        talk = Talk(name, channel)
        try:
            play(talk)
        except Exception as error:
            talk.saw.append(f"{type(error).__name__} {error}")
        print(json.dumps({"row": name, "at": "client", "saw": talk.saw}), flush=True)
