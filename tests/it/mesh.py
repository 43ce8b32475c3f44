#!/usr/bin/env python3
"""A stand-in for a mesh's proxy: takes what its rules redirect, and passes it on, byte by byte, to where it was going.

    mesh.py UID OUTBOUND_PORT INBOUND_PORT [SOURCE]    SOURCE: where its inbound connections to the app come from

Says of each connection {"mesh": "outbound" or "inbound", "to": ADDRESS}, before a byte is passed on. It becomes the user
that the mesh's rules exempt, from root, for that user may not reach this Python; IPv4 only."""
import encodings.idna  # which connecting would look for when it is another user's
import json
import os
import socket
import struct
import sys
import threading

SO_ORIGINAL_DST = 80


def main(uid, outbound, inbound, source=None):
    os.setgroups([])
    os.setgid(int(uid))
    os.setuid(int(uid))
    for name, port, local in (("outbound", outbound, None), ("inbound", inbound, source)):
        listener = socket.create_server(("0.0.0.0", int(port)))
        threading.Thread(target=accept, args=(name, listener, local)).start()
    print("listening", flush=True)


def accept(name, listener, local):
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(name, client, local), daemon=True).start()


def serve(name, client, local):
    port, address = struct.unpack_from("!H4s", client.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16), 2)
    destination = (socket.inet_ntoa(address), port)
    print(json.dumps({"mesh": name, "to": "%s:%d" % destination}), flush=True)
    try:
        server = socket.create_connection(destination, source_address=(local, 0) if local else None)
    except OSError:
        client.close()
        return
    back = threading.Thread(target=copy, args=(server, client), daemon=True)
    back.start()
    copy(client, server)
    back.join()


def copy(source, to):
    try:
        while data := source.recv(65536):
            to.sendall(data)
        to.shutdown(socket.SHUT_WR)
    except OSError:
        pass


main(*sys.argv[1:])
