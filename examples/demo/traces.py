"""What becomes of the spans: an OTLP receiver behind the collector, trees of them in the terminal, and whether they are
the trees that the agents' calls must make."""
import gzip
import itertools
import os
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

# One entry a trace: its root, or its root and the root's children in order of their names.
EXPECTED = {
    "agent.py": [
        "chat demo-1 llm.demo:8000 25+7 tokens, tool_call 200",
        "tools/call get_weather tools.demo 200",
        "chat demo-1 llm.demo:8000 40+7 tokens, stop 200",
        ("POST planner.demo:7000/plan/lisbon 200", ("GET tools.demo/search 200", "GET tools.demo/weather/lisbon 200")),
        "GET tools.demo/stream/lisbon 200",
        "GET tools.demo/tides/lisbon 404",
        "demo.Weather/Forecast weather.demo:50051 OK",
        "demo.Weather/Forecast weather.demo:50051 NOT_FOUND",
        "demo.Weather/Watch weather.demo:50051 OK",
    ],
    "agent.mjs": [
        ("POST planner.demo:7000/plan/oslo 200", ("GET tools.demo/search 200", "GET tools.demo/weather/oslo 200")),
        "GET tools.demo/search 200",
        "GET tools.demo/trains/oslo 500",
        "demo.Weather/Forecast weather.demo:50051 OK",
        "demo.Weather/Watch weather.demo:50051 OK",
    ],
}


class Call:
    """One span, with what the tree shows of it"""

    def __init__(self, span, service):
        attributes = {a.key: getattr(a.value, a.value.WhichOneof("value") or "string_value") for a in span.attributes}
        of_model, of_tool = "gen_ai.request.model" in attributes, "mcp.method.name" in attributes
        address, port = attributes.get("server.address", "?"), attributes.get("server.port")
        where = address if port in (None, 80, 443) else f"{address}:{port}"
        # The name of the gRPC status attribute changed in version 1.45 of the conventions.
        codes = ("http.response.status_code", "rpc.status_code", "rpc.response.status_code", "error.type")
        code = next((attributes[key] for key in codes if key in attributes), "")
        self.kind = "http" if "http.request.method" in attributes else attributes.get("rpc.system.name", "tcp")
        self.kind = "llm" if of_model else "mcp" if of_tool else self.kind
        self.label = f"{span.name} {where}"
        if of_model:
            given, made = (attributes.get(f"gen_ai.usage.{side}_tokens", "?") for side in ("input", "output"))
            ends = ", ".join(value.string_value for value in attributes["gen_ai.response.finish_reasons"].values)
            self.label += f" {given}+{made} tokens, {ends}"
        elif not of_tool:
            self.label += urlsplit(attributes.get("url.full", "")).path
        self.status, self.failed = str(code), span.status.code == 2
        self.trace, self.id, self.parent, self.service = span.trace_id, span.span_id, span.parent_span_id, service
        self.start, self.end = span.start_time_unix_nano, span.end_time_unix_nano
        self.children = []


class Receiver:
    """Takes OTLP over HTTP from the collector and keeps every span"""

    def __init__(self, address):
        self.calls, receiver = [], self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                if self.path == "/v1/traces":
                    receiver.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        threading.Thread(target=ThreadingHTTPServer(address, Handler).serve_forever, daemon=True).start()

    def take(self, request):
        for resource in request.resource_spans:
            names = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
            spans = itertools.chain.from_iterable(scope.spans for scope in resource.scope_spans)
            self.calls += [Call(span, "".join(names)) for span in spans]

    def roots(self):
        """The trees, as they are known by now, in order of time"""
        calls = sorted(self.calls, key=lambda call: call.start)
        by_id = {(call.trace, call.id): call for call in calls}
        for call in calls:
            call.children = []
        roots = []
        for call in calls:
            above = by_id.get((call.trace, call.parent))
            (above.children if above else roots).append(call)
        return roots


def shape(call):
    """A tree without its times, as EXPECTED writes it"""
    label = f"{call.label} {call.status}"
    return (label, tuple(sorted(map(shape, call.children), key=str))) if call.children else label


def difference(roots, agents):
    """Lines that say how the trees differ from what these agents' calls must make; none if they do not"""
    expected = Counter(tree for agent in agents for tree in EXPECTED[agent])
    # A root that names a parent has lost it; two roots in one trace are two traces that became one.
    found = Counter("orphan " + str(shape(root)) if root.parent else shape(root) for root in roots)
    shared = [trace.hex() for trace, n in Counter(root.trace for root in roots).items() if n > 1]
    return ([f"missing     {tree}" for tree in (expected - found).elements()]
            + [f"unexpected  {tree}" for tree in (found - expected).elements()]
            + [f"one trace id for several traces: {trace}" for trace in shared])


def show(roots):
    for root in roots:
        calls = list(walk(root))
        first, last = min(c.start for _, c in calls), max(c.end for _, c in calls)
        count = "1 call" if len(calls) == 1 else f"{len(calls)} calls"
        print(f"\n{paint(1, 'trace ' + root.trace.hex()[:8])}  {root.service}  {count}  {milliseconds(last - first)}")
        for branch, call in calls:
            status = paint(31 if call.failed else 32, f"{call.status:<10.10}")
            bar = BAR * max(1, round(WIDTH * (call.end - call.start) / max(1, last - first)))
            before = min(WIDTH - 1, int(WIDTH * (call.start - first) / max(1, last - first)))
            print(f"  {branch + call.label:<48.48} {call.kind:4} {status}"
                  f"{'+' + milliseconds(call.start - first):>10}{milliseconds(call.end - call.start):>10}"
                  f"  {' ' * before}{paint(36, bar[:WIDTH - before])}")


def walk(call, branch="", indent=""):
    yield branch, call
    for child in call.children:
        last = child is call.children[-1]
        yield from walk(child, indent + ("└─ " if last else "├─ "), indent + ("   " if last else "│  "))


def milliseconds(nanoseconds):
    return f"{nanoseconds / 1e6:.1f} ms"


def paint(colour, text):
    return f"\x1b[{colour}m{text}\x1b[0m" if COLOURS else text


COLOURS = sys.stdout.isatty() and "NO_COLOR" not in os.environ
BAR, WIDTH = "━", 12
