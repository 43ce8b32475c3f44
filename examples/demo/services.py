"""The services that the demo's agent calls: `services.py world` is outside the pod, `services.py planner` inside it.

The planner behaves as any instrumented service does: it copies the trace context of the call that it got to the calls
that it makes. None of them makes spans.
"""
import json
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc

WORK = 0.02  # seconds that an answer takes, so that the timings have something to show


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else head and body, two writes, are 40 ms apart

    def answer(self, body, status=200):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Tools(Service):
    def do_GET(self):
        time.sleep(WORK)
        tool, _, city = self.path.partition("?")[0][1:].partition("/")
        if tool == "search":
            self.answer({"found": ["the old town", "the harbour", "the museum"]})
        elif tool == "weather":
            self.answer({"weather": f"21 °C in {city.title()}"})
        elif tool == "stream":
            self.stream(["the", "answer", "comes", "in", "pieces"])
        elif tool == "trains":
            self.answer({"error": "timetable is broken"}, 500)
        else:
            self.answer({"error": f"no tool {tool!r}"}, 404)

    def do_POST(self):
        """A tool server of MCP, one answer for one request."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        city = asked["params"]["arguments"]["city"]
        content = [{"type": "text", "text": f"21 °C in {city}"}]
        self.answer({"jsonrpc": "2.0", "id": asked["id"], "result": {"content": content, "isError": False}})

    def stream(self, words):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for word in words:
            self.wfile.write(f"{len(word) + 1:x}\r\n{word}\n\r\n".encode())
            time.sleep(WORK)
        self.wfile.write(b"0\r\n\r\n")


class Model(Service):
    """Speaks as OpenAI does: first it asks for a tool, then it answers with what the tool said."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = next((message["content"] for message in asked["messages"] if message["role"] == "tool"), None)
        if known:
            deltas, reason = [{"content": word} for word in ("Today: ", known, ".")], "stop"
        else:
            call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": ""}}
            pieces = [{"index": 0, "function": {"arguments": piece}} for piece in ('{"city":', '"Lisbon"}')]
            deltas, reason = [{"tool_calls": [delta]} for delta in (call, *pieces)], "tool_calls"
        usage = {"prompt_tokens": 40 if known else 25, "completion_tokens": 7, "total_tokens": 47 if known else 32}
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for delta in deltas:
            self.chunk(choices=[{"index": 0, "delta": delta, "finish_reason": None}])
            time.sleep(WORK)
        self.chunk(choices=[{"index": 0, "delta": {}, "finish_reason": reason}])
        self.chunk(choices=[], usage=usage)
        self.data("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def chunk(self, **more):
        self.data(json.dumps({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "demo-1-mini", **more}))

    def data(self, text):
        event = f"data: {text}\n\n".encode()
        self.wfile.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")


class Planner(Service):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        city = self.path.rpartition("/")[2]
        stops = self.call(f"/search?q={city}")["found"]
        weather = self.call(f"/weather/{city}")["weather"]
        self.answer({"stops": stops, "weather": weather})

    def call(self, path):
        context = {name: self.headers[name] for name in ("traceparent", "tracestate") if name in self.headers}
        request = urllib.request.Request(f"http://tools.demo{path}", headers=context)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


def forecast(city, context):
    time.sleep(WORK)
    if city == b"atlantis":
        context.abort(grpc.StatusCode.NOT_FOUND, "no such city")
    return b"sunny in " + city.title()


def watch(cities, context):
    for city in cities:
        yield forecast(city, context)


def weather(port):
    # No generated code: without serializers grpcio hands bytes through.
    methods = {
        "Forecast": grpc.unary_unary_rpc_method_handler(forecast),
        "Watch": grpc.stream_stream_rpc_method_handler(watch),
    }
    server = grpc.server(ThreadPoolExecutor())
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("demo.Weather", methods)])
    server.add_insecure_port(f"[::]:{port}")
    server.start()
    return server


if sys.argv[1] == "world":
    grpc_server = weather(50051)
    threading.Thread(target=ThreadingHTTPServer(("0.0.0.0", 8000), Model).serve_forever, daemon=True).start()
    http_server = ThreadingHTTPServer(("0.0.0.0", 80), Tools)
else:
    http_server = ThreadingHTTPServer(("127.0.0.1", 7000), Planner)
print("listening", flush=True)
http_server.serve_forever()
