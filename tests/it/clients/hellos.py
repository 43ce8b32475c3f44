#!/usr/bin/env python3
"""Says ClientHellos as real clients said them, and hears whether they arrived: `hellos.py HOST PORT SCENARIO …`.

    pieces FILE…          each file in pieces of several sizes
    ports FILE…           each file to a port of its own, in pieces of 100 bytes
    changed FILE…         each with a byte changed, in several places, and cut in several places
    strange FILE…         each with a byte changed that makes it no hello
    half COUNT FILE       so many connections that say half of it, and stay until SIGUSR1
    long COUNT            so many that say most of the longest hello that is waited for, byte by byte in records, and stay"""
import hashlib
import signal
import socket
import sys
from pathlib import Path

HOST, PORT = sys.argv[1], int(sys.argv[2])
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})


def connect(port=PORT):
    talk = socket.create_connection((HOST, port), 60)
    talk.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return talk


def say(hello, size, port=PORT, fin=False):
    with connect(port) as talk:
        for at in range(0, len(hello), size):
            talk.sendall(hello[at:at + size])
        if fin:
            talk.shutdown(socket.SHUT_WR)
        heard = b""
        while len(heard) < 64 and (data := talk.recv(64 - len(heard))):
            heard += data
        assert heard.decode() == hashlib.sha256(hello).hexdigest(), (port, size, len(hello), heard)


def read(files):
    return [Path(file).read_bytes() for file in files]


def pieces(*files):
    for hello in read(files):
        for size in (1, 5, 6, 100, 517, len(hello)):
            say(hello, size)
    print(6 * len(files))


def ports(*files):
    for index, hello in enumerate(read(files)):
        say(hello, 100, PORT + index)
    print(len(files))


def changed(*files):
    said = 0
    for hello in read(files):
        for at in (0, 1, 4, 5, 8, 10, 43, 44, len(hello) // 2, len(hello) - 1):
            other = bytearray(hello)
            other[at] ^= 0x81
            say(bytes(other), 100, fin=True)
            say(hello[:at + 1], 100, fin=True)
            said += 2
    print(said)


def strange(*files):
    """Changes the record's type or version, or the message's."""
    for hello in read(files):
        for at in (0, 1, 5):
            other = bytearray(hello)
            other[at] ^= 0x81
            say(bytes(other), 100, fin=True)
    print(3 * len(files))


def hold(talks, hello):
    for talk in talks:
        talk.sendall(hello)
    print("holding", flush=True)
    signal.sigwait({signal.SIGUSR1})
    for talk in talks:
        talk.close()


def half(count, file):
    hello, = read([file])
    hold([connect() for _ in range(int(count))], hello[:len(hello) // 2])


def long(count):
    hello = b"\1\0\x7f\xf0" + bytes(5400)
    hold([connect() for _ in range(int(count))], b"".join(b"\x16\3\1\0\1%c" % byte for byte in hello))


scenario, *arguments = sys.argv[3:]
globals()[scenario](*arguments)
