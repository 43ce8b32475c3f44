#!/usr/bin/env python3
"""An MCP server of the generation that is installed: `mcp_servers.py PORT`. Streamable HTTP at any path that ends in /mcp (in /json/mcp
with JSON for answers), HTTP+SSE of 2024-11-05 at /sse."""
import asyncio
import contextlib
import os
import sys

import uvicorn
import wire
from pydantic import BaseModel

try:
    from mcp.server.mcpserver import Context, MCPServer
    from mcp_types import ElicitRequest, ElicitRequestFormParams, InputRequiredResult, SamplingMessage, TextContent
    NEW = True
except ImportError:
    from mcp.server.fastmcp import Context, FastMCP
    from mcp.types import SamplingMessage, TextContent
    NEW = False


class Choice(BaseModel):
    sure: bool


def make(**settings):
    server = MCPServer("demo") if NEW else FastMCP("demo", host="0.0.0.0", **settings)

    @server.tool()
    def add(a: int, b: int) -> int:
        return a + b

    @server.tool()
    def boom() -> str:
        raise ValueError("no")

    @server.tool()
    async def steps(count: int, ctx: Context) -> str:
        for step in range(count):
            await ctx.report_progress(step + 1, count)
        return "done"

    @server.tool()
    async def ask(ctx: Context) -> str:
        message = SamplingMessage(role="user", content=TextContent(type="text", text="Who?"))
        answer = await ctx.session.create_message([message], max_tokens=9, related_request_id=ctx.request_id)
        return f"{answer.content.text}"

    @server.tool()
    async def confirm(ctx: Context) -> str:
        return (await ctx.elicit("Sure?", Choice)).action

    if NEW:
        # The stateless way to ask.
        @server.tool()
        async def confirm_again(ctx: Context) -> str | InputRequiredResult:
            if ctx.input_responses:
                return "sure"
            asked = ElicitRequest(params=ElicitRequestFormParams(message="Sure?", requested_schema={"type": "object", "properties": {"sure": {"type": "boolean"}}}))
            return InputRequiredResult(input_requests={"sure": asked}, request_state="state-1")

    @server.resource("res://known")
    def known() -> str:
        return "known"

    @server.resource("res://item/{name}")
    def item(name: str) -> str:
        return f"item {name}"

    @server.prompt()
    def greet(name: str) -> str:
        return f"hi {name}"

    return server


def streamable(json):
    return make().streamable_http_app(host="0.0.0.0", json_response=json) if NEW else make(json_response=json).streamable_http_app()


def sse():
    return make().sse_app(host="0.0.0.0") if NEW else make().sse_app()


async def main():
    apps = {"/json/mcp": streamable(True), "/mcp": streamable(False), "": sse()}

    async def dispatch(scope, receive, send):
        """Each client has a path of its own."""
        if scope["type"] != "http":
            return
        app = next(app for end, app in apps.items() if scope["path"].endswith(end))
        inner = {**scope, "path": "/mcp", "raw_path": b"/mcp"} if scope["path"].endswith("/mcp") else scope
        if not wire.RECORD:
            return await app(inner, receive, send)
        return await recorded(app, inner, scope, receive, send)

    async with contextlib.AsyncExitStack() as stack:
        for app in apps.values():
            await stack.enter_async_context(app.router.lifespan_context(app))
        server = uvicorn.Server(uvicorn.Config(dispatch, host="", port=int(sys.argv[1]), log_level="error", lifespan="off", timeout_graceful_shutdown=1))
        running = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        print("listening", flush=True)
        await running


async def recorded(app, inner, scope, receive, send):
    """Keeps the exchange, as its server sees it."""
    asked, head, body = b"", b"", b""

    async def hear():
        nonlocal asked
        message = await receive()
        asked += message.get("body", b"")
        return message

    async def say(message):
        nonlocal head, body
        if head and message["type"] == "http.response.start":
            pass  # a second answer, which nobody sees, when a stream has ended
        elif message["type"] == "http.response.start":
            headers = [(key, value) for key, value in message["headers"] if key not in (b"content-length",)]
            head = b"HTTP/1.1 %d %s\r\n%s\r\n" % (message["status"], wire.REASONS[message["status"]].encode(), lines(headers))
        else:
            body += message.get("body", b"")
        await send(message)

    try:
        await app(inner, hear, say)
    finally:
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        request = b"%s %s HTTP/1.1\r\n%s\r\n%s" % (scope["method"].encode(), target, lines(scope["headers"]), asked)
        name = case(scope, asked)
        again = wire.pathlib.Path(wire.RECORD, "mcp", f"{name}.request").exists() and name.endswith("-add")
        if wire.re.match(KEPT, name) and not again:
            wire.keep("mcp", name, request, head + body)


def lines(headers):
    return b"".join(b"%s: %s\r\n" % pair for pair in headers)


def case(scope, asked):
    message = wire.json.loads(asked) if asked else {}
    params = message.get("params") or {}
    words = [message.get("method") or ("response" if asked else scope["method"].lower()), params.get("name") or params.get("uri", "").removeprefix("res://")]
    host = dict(scope["headers"])[b"host"].decode().split(".")[0]
    client = scope["path"].removesuffix("/mcp").strip("/").replace("/", "-") if scope["path"].endswith("/mcp") else host
    return "-".join(word.replace("/", "-") for word in [client, *words] if word)


# Of clients and servers of the same generation all, of the others what differs.
KEPT = "mcp2-(modern|legacy)-|mcp1-old-(?!json)|mcp1-old-json-(initialize|tools-call-boom|resources-read-none)|sse1-mcp1-|mcp2-fallback-(server|initialize|post|tools-call-ask|response)|mcp2-old-(?!json)(initialize|tools-call-boom)|node-(legacy|fallback)-(initialize|tools-call|notif)|sse2-node-(get|initialize|tools-call-boom|resources-read-none)"

if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    asyncio.run(main())
