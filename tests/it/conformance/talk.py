#!/usr/bin/env python3
"""The two ends of the rows that are conversations, step by step over plain sockets; every byte heard is said as JSON.

    talk.py origin ROWS FOLDER [CERTIFICATE]    listens on one port for each row until SIGTERM
    talk.py client ROWS FOLDER HOST             runs all rows, several at once

ROWS is a JSON file: [[name, port, client, origin]…]. An end is a list of steps; `null` for an origin is somebody else's
server; a client of one step ["curl", ARGUMENT…] is curl, with URL, ADDRESS (host and port) and PORT of the row. Steps:
    send TEXT · fill N (bytes of a pattern) · drip TEXT (byte by byte, each alone on the wire)
    until TEXT · bytes N · digest N (hear that much, say only its digest) · rest (hear all until the end)
    fin · reset · close · gone (wait until the other has let go of the connection wholly) · flood (send until it is cut)
    tell NAME · hold NAME (waits for the other end's `tell`) · next (another connection) · tls (from here on)
When the steps are over, the end hears what is left until the other side's end. Nothing is said of when, only in which order."""
import hashlib
import json
import pathlib
import re
import select
import selectors
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

PATIENCE = 5  # seconds; a row that meets it has failed
SIOCOUTQ = 0x5411
SAYING = threading.Lock()
PATTERN = bytes(range(33, 127)) * 700


def say(row, at, saw):
    with SAYING:
        print(json.dumps({"row": row, "at": at, "saw": saw}), flush=True)


class End:
    """One end of one connection."""

    def __init__(self, row, at, connection, folder, certificate):
        self.row, self.at, self.connection, self.folder, self.certificate = row, at, connection, folder, certificate
        self.saw, self.buffer, self.over, self.failed = [], b"", False, False
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(PATIENCE)

    def run(self, steps):
        for verb, *what in steps:
            getattr(self, verb)(*what)
        if self.connection.fileno() >= 0:
            self.rest()
            self.connection.close()

    def hear(self):
        """More bytes, or the end."""
        if self.over:
            return False
        try:
            data = self.connection.recv(65536)
            if not data:
                self.over = "<FIN>"
        except TimeoutError:
            data, self.over = b"", "<TIMEOUT>"
        except ssl.SSLError as error:
            data, self.over = b"", f"<{error.reason}>"
        except OSError:
            data, self.over = b"", "<RST>"
        self.buffer += data
        return bool(data)

    def take(self, size):
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def note(self, taken, whole):
        text = taken.decode("latin-1")
        self.saw.append(text if whole else f"{text}{self.over} too early")

    def until(self, marker):
        marker, start = marker.encode("latin-1"), 0
        while (found := self.buffer.find(marker, start)) < 0:
            start = max(0, len(self.buffer) - len(marker))
            if not self.hear():
                return self.note(self.take(len(self.buffer)), False)
        self.note(self.take(found + len(marker)), True)

    def bytes(self, size):
        while len(self.buffer) < size and self.hear():
            pass
        taken = self.take(size)
        self.note(taken, len(taken) == size)

    def digest(self, size):
        digest, left = hashlib.sha256(), size
        while left and (self.buffer or self.hear()):
            part = self.take(left)
            digest.update(part)
            left -= len(part)
        self.saw.append(f"{size - left} bytes {digest.hexdigest()}{self.over + ' too early' if left else ''}")

    def rest(self):
        if self.failed:  # whether FIN or RST came first is chance then
            return self.saw.append("<gone>")
        while self.hear():
            pass
        self.saw.append(self.take(len(self.buffer)).decode("latin-1") + self.over)

    def send(self, text):
        self.transmit(text.encode("latin-1"))

    def transmit(self, data):
        if self.failed:
            return
        try:
            self.connection.sendall(data)
        except OSError as error:
            self.failed = True
            self.saw.append("<TIMEOUT> while sending" if isinstance(error, TimeoutError) else "<send failed>")

    def fill(self, size):
        while size > 0 and not self.failed:
            self.transmit(PATTERN[:size])
            size -= len(PATTERN)

    def drip(self, text):
        for byte in text.encode("latin-1"):
            self.transmit(bytes([byte]))
            self.acknowledged()

    def acknowledged(self):
        import fcntl

        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if fcntl.ioctl(self.connection, SIOCOUTQ, b"\0\0\0\0") == b"\0\0\0\0":
                return
            time.sleep(0.0005)

    def fin(self):
        try:
            self.connection.shutdown(socket.SHUT_WR)
        except OSError:
            self.saw.append("<fin failed>")

    def reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def close(self):
        self.connection.close()

    def gone(self):
        poll = select.poll()
        poll.register(self.connection, 0)
        self.saw.append("<gone>" if poll.poll(PATIENCE * 1000) else "<TIMEOUT> before it was gone")
        self.connection.close()

    def flood(self):
        while not self.failed:
            self.transmit(PATTERN)

    def tell(self, name):
        (self.folder / f"{self.row}.{name}".replace("/", "_")).touch()

    def hold(self, name):
        path, deadline = self.folder / f"{self.row}.{name}".replace("/", "_"), time.monotonic() + PATIENCE
        while not path.exists():
            if time.monotonic() > deadline:
                return self.saw.append(f"<TIMEOUT> before {name}")
            time.sleep(0.002)

    def tls(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        self.connection = context.wrap_socket(self.connection, server_side=True)


def connections(steps):
    """The steps, connection by connection."""
    parts = [[]]
    for step in steps:
        if step[0] == "next":
            parts.append([])
        else:
            parts[-1].append(step)
    return parts


def client(rows, folder, host):
    def run(row):
        name, port, steps, _ = row
        if steps[0][0] == "curl":
            return say(name, "client", curl(steps[0][1:], f"http://{host}:{port}"))
        saw = []
        for part in connections(steps):
            end = End(name, "client", socket.create_connection((host, port), PATIENCE), folder, None)
            end.run(part)
            saw += end.saw
        say(name, "client", saw)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(run, rows))


def curl(arguments, url):
    address = url[len("http://"):]
    known = {"URL": url, "ADDRESS": address, "PORT": address.split(":")[1]}
    for word, value in known.items():
        arguments = [argument.replace(word, value) for argument in arguments]
    done = subprocess.run(["curl", "-sS", "--max-time", "20", *arguments], stdin=subprocess.DEVNULL, capture_output=True)
    complaint = re.sub(r"\d+ milliseconds", "some milliseconds", done.stderr.decode("latin-1"))
    return [done.stdout.decode("latin-1"), f"exit {done.returncode} {complaint}"]


def origin(rows, folder, certificate=None):
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    selector, threads, left = selectors.DefaultSelector(), [], {}
    for name, port, _, steps in rows:
        if steps is not None:
            listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
            left[name] = connections(steps)
            selector.register(listener, selectors.EVENT_READ, name)

    def serve(name, connection, steps):
        end = End(name, "origin", connection, folder, certificate)
        try:
            end.run(steps)
        except Exception as error:
            end.saw.append(f"<{type(error).__name__} {error}>")
        say(name, "origin", end.saw)

    print("listening", flush=True)
    deadline = None
    while deadline is None or time.monotonic() < deadline:
        if stop.is_set():
            deadline = deadline or time.monotonic() + 3
            if not any(left.values()):
                break
        for key, _ in selector.select(0.05):
            connection, _ = key.fileobj.accept()
            steps = left[key.data].pop(0) if left[key.data] else []
            threads.append(threading.Thread(target=serve, args=(key.data, connection, steps), daemon=True))
            threads[-1].start()
    for thread in threads:
        thread.join(2 * PATIENCE)


if __name__ == "__main__":
    mode, rows, folder, *more = sys.argv[1:]
    rows = json.loads(pathlib.Path(rows).read_text())
    {"client": client, "origin": origin}[mode](rows, pathlib.Path(folder), *more)
