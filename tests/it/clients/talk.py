#!/usr/bin/env python3
"""An ordinary program with a socket: `talk.py HOST PORT STEP…` and prints what it hears. Steps, in order:
send:TEXT (escapes are understood), zeros:N, hear:N (bytes), fin, rest (until FIN or reset), reset."""
import hashlib
import socket
import struct
import sys

host, port, *steps = sys.argv[1:]
with socket.socket() as talk:
    talk.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # so that a sender has to wait for us
    talk.settimeout(30)
    talk.connect((host, int(port)))
    try:
        for step in steps:
            verb, _, what = step.partition(":")
            if verb == "send":
                talk.sendall(what.encode().decode("unicode_escape").encode("latin-1"))
            elif verb == "zeros":
                talk.sendall(bytes(int(what)))
            elif verb == "hear":
                heard = b""
                while len(heard) < int(what) and (data := talk.recv(int(what) - len(heard))):
                    heard += data
                print(heard)
            elif verb == "fin":
                talk.shutdown(socket.SHUT_WR)
            elif verb == "rest":
                heard = b""
                while data := talk.recv(65536):
                    heard += data
                print(len(heard), hashlib.sha256(heard).hexdigest(), heard[:400])
            elif verb == "reset":
                talk.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError as error:
        print(type(error).__name__)
