#!/usr/bin/env python3
"""MCP's library of the generation that is installed, against servers of both: what passes between the library and its own
transport is what is said of each call."""
import asyncio
import contextlib

from told import http, say

try:
    import mcp_types as types
    from mcp.client.client import Client
    from mcp.client.sse import sse_client
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared._httpx_utils import create_mcp_http_client
    from mcp.shared.exceptions import MCPError
    V = "mcp2"
except ImportError:
    from mcp import ClientSession, types
    from mcp.client.sse import sse_client
    from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client
    from mcp.shared.exceptions import McpError as MCPError
    V = "mcp1"


class Tap:
    """The library's transport, listened to."""

    def __init__(self, transport):
        self.transport, self.messages = transport, []

    async def __aenter__(self):
        read, write, *_ = await self.transport.__aenter__()
        return Stream(read, self, "came"), Stream(write, self, "went")

    async def __aexit__(self, *error):
        return await self.transport.__aexit__(*error)

    def hear(self, way, item):
        if hasattr(item, "message"):
            self.messages.append((way, item.message.model_dump(by_alias=True, exclude_none=True, mode="json")))


class Stream:
    def __init__(self, inner, tap, way):
        self.inner, self.tap, self.way = inner, tap, way

    def __getattr__(self, name):
        return getattr(self.inner, name)

    async def send(self, item):
        self.tap.hear(self.way, item)
        await self.inner.send(item)

    async def receive(self):
        item = await self.inner.receive()
        self.tap.hear(self.way, item)
        return item

    def __aiter__(self):
        return self

    async def __anext__(self):
        item = await self.inner.__anext__()
        self.tap.hear(self.way, item)
        return item

    async def __aenter__(self):
        await self.inner.__aenter__()
        return self

    async def __aexit__(self, *error):
        return await self.inner.__aexit__(*error)


def report(messages, match, session, version, host, port):
    """A span for each request and notification, of whichever side."""
    answers = {(way, message["id"]): message for way, message in messages if "method" not in message}
    for way, message in messages:
        method, params = message.get("method"), message.get("params") or {}
        ours, number = way == "went", message.get("id")
        if method is None or (not ours and number is None):
            continue  # an answer; what the server only mentions is part of its stream
        answer = answers.get(("came" if ours else "went", number), {}) if number is not None else {}
        code = str(answer["error"]["code"]) if "error" in answer else None
        wrong = answer.get("result", {}).get("isError")
        named = params.get("name") if method in ("tools/call", "prompts/get") else None
        told = {
            "mcp.method.name": method, "jsonrpc.request.id": None if number is None else str(number), "mcp.protocol.version": version, "mcp.session.id": session,
            "gen_ai.tool.name": named if method == "tools/call" else None, "gen_ai.prompt.name": named if method == "prompts/get" else None,
            "gen_ai.operation.name": "execute_tool" if method == "tools/call" else None, "mcp.resource.uri": params.get("uri"), "rpc.status_code": code,
            "error.type": code or ("tool_error" if wrong else None), "server.address": host, "server.port": port, "gen_ai.request.model": None, "jsonrpc.protocol.version": None, "sidetrace.end": None,
            "sidetrace.mcp.input_required": True if answer.get("result", {}).get("resultType") == "input_required" else None,
        }
        if "url.full" not in match or method == "server/discover":
            del told["mcp.session.id"], told["mcp.protocol.version"]  # 2024-11-05 has none, though its POSTs name one; an old server makes one up for who only asks
        if not ours:
            told = {name: told[name] for name in ("mcp.method.name", "jsonrpc.request.id")}
        # What the server asks is no exchange of its own.
        where = match if ours else {"client.address": host, "client.port": port, **({"mcp.session.id": session} if session else {})}
        found = {**where, "mcp.method.name": method, "jsonrpc.request.id": told["jsonrpc.request.id"]}
        say(f"{method} {named}" if named else method, found, told, failed=bool(code or wrong), kind="client" if ours else "server")


async def play(client, asks, tells=True):
    """What an agent does; the library's own objects must be as they should."""
    errors = []
    await client.list_tools()
    assert not error_of(await client.call_tool("add", {"a": 1, "b": 2}))
    assert error_of(await client.call_tool("boom", {}))
    seen = []

    async def progress(step, total, message):
        seen.append(step)

    await client.call_tool("steps", {"count": 3}, progress_callback=progress)
    assert seen == ([1, 2, 3] if tells else []), seen
    try:
        # Unknown tools are errors of the tool for some servers, of the protocol for others.
        await client.call_tool("nothing", {"deep": [1, {"a": None}]})
    except MCPError:
        pass
    await client.list_resources()
    await client.list_prompts()
    await client.get_prompt("greet", {"name": "x"})
    for uri in ("res://known", "res://item/one"):
        await client.read_resource(uri)
    for act in (lambda: client.read_resource("res://none"), lambda: client.get_prompt("none", {})):
        try:
            await act()
        except MCPError as error:
            errors.append(error)
    assert len(errors) == 2
    for name in asks:
        assert not error_of(await client.call_tool(name, {})), name
    await asyncio.gather(*(client.call_tool("add", {"a": number, "b": 1}) for number in range(4)))


def error_of(result):
    return getattr(result, "is_error", None) or getattr(result, "isError", None)


async def sampled(context, params):
    return types.CreateMessageResult(role="assistant", content=types.TextContent(type="text", text="Me"), model="gpt-sampled")


async def elicited(context, params):
    return types.ElicitResult(action="accept", content={"sure": True})


@contextlib.asynccontextmanager
async def connected(tap, mode):
    callbacks = {"sampling_callback": sampled, "elicitation_callback": elicited}
    if V == "mcp2":
        async with Client(tap, mode=mode, **callbacks) as client:
            yield client, lambda: client.protocol_version
    else:
        async with tap as (read, write), ClientSession(read, write, **callbacks) as session:
            version = (await session.initialize()).protocolVersion
            yield session, lambda: version


async def streamable(host, port, path, mode, asks):
    url = f"http://{host}:{port}/{path}"
    sessions, statuses = [], []
    async with create_mcp_http_client() as over:
        async def look(response):
            statuses.append((response.request.method, response.status_code))
            if response.headers.get("mcp-session-id"):
                sessions.append(response.headers["mcp-session-id"])

        over.event_hooks = {"request": [], "response": [look]}
        tap = Tap(streamable_http_client(url, http_client=over))
        async with connected(tap, mode) as (client, version):
            await play(client, asks, "json" not in path)
            version = version()
    session = (sessions or [None])[-1]
    assert len(statuses) > 10
    report(tap.messages, {"url.full": url}, session, version, host, port)
    for method in sorted({method for method, _ in statuses} - {"POST"}):
        http(method, url)


async def streamed(host, port):
    """2024-11-05: answers come by another connection."""
    tap = Tap(sse_client(f"http://{host}:{port}/sse"))
    async with connected(tap, "legacy") as (client, version):
        await play(client, ("ask", "confirm"))
        version = version()
    found = {"server.address": host, "server.port": port}
    report(tap.messages, found, None, version, host, port)
    http("GET", f"http://{host}:{port}/sse")


async def main():
    if V == "mcp2":
        await streamable("mcp2.example", 8080, f"{V}-modern/mcp", "2026-07-28", ("confirm_again",))
        await streamable("mcp2.example", 8080, f"{V}-auto/mcp", "auto", ())
        await streamable("mcp1.example", 8081, f"{V}-fallback/mcp", "auto", ("ask",))
    await streamable("mcp2.example", 8080, f"{V}-legacy/mcp", "legacy", ("ask", "confirm"))
    await streamable("mcp1.example", 8081, f"{V}-old/mcp", "legacy", ("ask", "confirm"))
    await streamable("mcp1.example", 8081, f"{V}-old/json/mcp", "legacy", ())
    for host, port in ((f"sse2-{V}.example", 8080), (f"sse1-{V}.example", 8081)):
        await streamed(host, port)


asyncio.run(main())
