"""An agent as anybody would write it: it knows nothing of whoever looks on. Says a line for each call that it makes.

    agent.py [job [NAME…]]  makes those calls, or each that it can, and ends
    agent.py serve [PORT…]  makes a call; answers GET /NAME on 8080 (or $PORT) with what the call NAME gave; makes a last one
                            on SIGTERM. Listens on the other ports, too, until GET /close."""
import asyncio
import os
import signal
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from openai import OpenAI

QUESTION = [{"role": "user", "content": "How is the weather?"}]
openai = OpenAI(api_key="sk-the-agents-own", max_retries=0)


def chat():
    answer = openai.chat.completions.create(model="gpt-4o", messages=QUESTION)
    return f"{answer.id} {answer.usage.prompt_tokens} {answer.usage.completion_tokens}"


def stream():
    chunks = list(openai.chat.completions.create(model="gpt-4o-mini", messages=QUESTION, stream=True, stream_options={"include_usage": True}))
    return f"{chunks[0].id} {chunks[-1].usage.prompt_tokens} {chunks[-1].usage.completion_tokens}"


def fetch():
    return requests.get("https://api.weather.example/forecast", timeout=20).json()["path"]


def plain():
    return requests.get("http://api.weather.example/status", timeout=20).json()["path"]


def tool():
    async def add():
        async with Client(streamable_http_client("http://tools.example:8000/mcp")) as client:
            return (await client.call_tool("add", {"a": 1, "b": 2})).content[0].text

    return asyncio.run(add())


CALLS = {call.__name__: call for call in (chat, stream, fetch, plain, tool)}


def perform(name):
    try:
        said = f"did {name} {CALLS[name]()}"
    except Exception as error:
        said = f"failed {name} {type(error).__name__}: {error!r} {error.__cause__!r}"
    print(said, flush=True)
    return said


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path[1:]
        if name == "crash":
            os._exit(3)
        if name == "close":
            for listener in others:
                listener.close()
        said = perform(name) if name in CALLS else "ok"
        self.send_response(200 if said.startswith(("did", "ok")) else 502)
        self.end_headers()
        self.wfile.write(said.encode())

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.bind(self.server_address)


def told_to_end(*_):
    perform("chat")
    sys.exit(0)


if __name__ == "__main__":
    mode, *words = sys.argv[1:] or ["job"]
    if mode == "job":
        failed = [name for name in words or CALLS if perform(name).startswith("failed")]
        sys.exit(1 if failed else 0)
    perform("chat")
    signal.signal(signal.SIGTERM, told_to_end)
    server = Server(("::", int(os.environ.get("PORT", "8080"))), Handler)
    others = [socket.create_server(("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True) for port in words]
    print("serving", flush=True)
    server.serve_forever()
