#!/usr/bin/env python3
"""A client that means no good, over HTTP/1: `hostile.py HOST PORT SCENARIO…`. Says what came of it, line by line. Where
it holds connections it says so, and goes on at SIGUSR1."""
import hashlib
import resource
import select
import signal
import socket
import struct
import sys

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
HOST, PORT = sys.argv[1], int(sys.argv[2])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connect(buffer=None):
    talk = socket.socket()
    if buffer:
        talk.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    talk.settimeout(60)
    talk.connect((HOST, PORT))
    talk.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return talk


def rest(talk):
    heard = b""
    try:
        while data := talk.recv(65536):
            heard += data
        return heard, "fin"
    except ConnectionResetError:
        return heard, "reset"


def reset(talk):
    talk.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    talk.close()


def exactly(talk, count):
    heard = b""
    while len(heard) < count and (data := talk.recv(count - len(heard))):
        heard += data
    return heard


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def call():
    with connect() as talk:
        talk.sendall(b"GET /well HTTP/1.1\r\nHost: a\r\n\r\n")
        assert exactly(talk, len(OK)) == OK


def shape(text):
    """One piece; then a normal call, which must be answered."""
    with connect() as talk:
        talk.sendall(text.encode().decode("unicode_escape").encode("latin-1"))
        heard, end = rest(talk)
    call()
    print(len(heard), end, flush=True)


def head(text):
    """Sends a head and hears `ok`; says what was sent."""
    with connect() as talk:
        talk.sendall(text)
        assert exactly(talk, len(OK)) == OK
    print(len(text), hashlib.sha256(text).hexdigest(), flush=True)


def hold(talks):
    print("holding", len(talks), flush=True)
    signal.sigwait({signal.SIGUSR1})
    return talks


def big_heads():
    lines = lambda count: b"".join(b"X-%d: %d\r\n" % (n, n) for n in range(count))
    start = b"GET /large-head HTTP/1.1\r\nHost: a\r\n"
    for text in (
        start + b"X: " + b"x" * (1 << 20) + b"\r\n\r\n",
        start + lines(1000) + b"\r\n",
        start + lines(10000) + b"\r\n",
        start + b"x:\r\n" * 200000 + b"\r\n",
        b"GET /" + b"p" * 30000 + b" HTTP/1.1\r\nHost: a\r\n" + b"C: " + b"c" * 1_900_000 + b"\r\n\r\n",
    ):
        head(text)


def truncated():
    """Every prefix of a request, ended by FIN, and by RST; the origin hears what was said."""
    whole = b"\r\nPOST /quiet HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: 1\r\n\r\n"
    for cut in range(1, len(whole)):
        talk = connect()
        talk.sendall(whole[:cut])
        talk.shutdown(socket.SHUT_WR)
        assert rest(talk) == (b"", "fin"), cut
        talk.close()
    for cut in range(1, len(whole)):
        talk = connect()
        talk.sendall(whole[:cut])
        reset(talk)
    call()
    print(len(whole), flush=True)


def silent(count):
    talks = hold([connect() for _ in range(int(count))])
    for talk in talks:
        talk.close()


def aborted(count):
    for _ in range(int(count)):
        reset(connect())
    call()
    print("done", flush=True)


def half_heads(count, size):
    """Heads that never end."""
    piece = b"GET /quiet HTTP/1.1\r\nHost: a\r\nX: " + b"x" * int(size)
    talks = [connect() for _ in range(int(count))]
    for talk in talks:
        talk.sendall(piece)
    call()
    hold(talks)
    for talk in talks:
        reset(talk)


def late_heads(count):
    """Heads that end only after they have been held for long, byte by byte; others are served at each step."""
    talks = [connect() for _ in range(int(count))]
    text = b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n"
    for at in range(len(text)):
        for talk in talks:
            talk.sendall(text[at:at + 1])
        call()
    for talk in talks:
        assert exactly(talk, len(OK)) == OK
        talk.close()
    print("done", flush=True)


def unread(count, path):
    """Answers that are read only after others were served."""
    talks = [connect(4096) for _ in range(int(count))]
    for talk in talks:
        talk.sendall(b"GET " + path.encode() + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        assert talk.recv(1) == b"H"
    for _ in range(200):
        for talk in talks:
            assert len(talk.recv(1)) == 1
        call()
    hold(talks)
    total = 0
    for talk in talks:
        talk.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        talk.shutdown(socket.SHUT_WR)
        while data := talk.recv(1 << 20):
            total += len(data)
    print(total, flush=True)


def pipelined(count):
    """Requests in one piece, all answered in the end, though never more than some at a time are under way."""
    request = b"GET /p HTTP/1.1\r\nHost: a\r\n\r\n"
    talk = connect()
    talk.setblocking(False)
    sending, hearing = request * int(count), len(OK) * int(count)
    while hearing:
        _, writable, _ = select.select([], [talk] if sending else [], [], 0)
        if writable:
            sending = sending[talk.send(sending[:1 << 20]):]
        readable, _, _ = select.select([talk], [talk] if sending else [], [], 60)[0:3]
        if readable:
            data = talk.recv(1 << 20)
            assert data, hearing
            hearing -= len(data)
    print("done", flush=True)


scenario, *arguments = sys.argv[3:]
if scenario == "shapes":
    for line in arguments:
        shape(line)
else:
    globals()[scenario](*arguments)
