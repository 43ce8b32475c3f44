#!/usr/bin/env python3
"""Anthropic's library as its documentation says to use it; works with the generations 0 and 2."""
import asyncio

import anthropic
from told import FIRST, asked, http, llm, reply, usage

V = f"ant{anthropic.__version__.split('.')[0]}"
REASONS = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "model_context_window_exceeded": "length", "tool_use": "tool_call", "refusal": "content_filter"}
TOOLS = [{"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}]
ASKED = {"max_tokens": 99, "messages": [{"role": "user", "content": "Gr\u00fc\u00dfe \U0001f600"}]}
SEEN = []


def keep(response):
    if response.status_code >= 400:
        response.read()
    SEEN.append(response)


def counted(said):
    if said is None:
        return usage()
    read, written = said.cache_read_input_tokens, said.cache_creation_input_tokens
    details = getattr(said, "output_tokens_details", None)
    return usage(said.input_tokens + (read or 0) + (written or 0), said.output_tokens, read, written, getattr(details, "thinking_tokens", None))


def failure(response):
    return {"error.type": response.json()["error"]["type"], "http.response.status_code": response.status_code}


def call(client, scenario, streamed=False, **options):
    model, before, message = f"claude-x.{V}.{scenario}", len(SEEN), None
    common = asked(streamed, max_tokens=99, stop_sequences=options.get("stop_sequences"))
    common["gen_ai.request.reasoning.level"] = options.get("extra_body", {}).get("output_config", {}).get("effort")
    ended, failed = {"sidetrace.end": None}, False
    try:
        if streamed:
            with client.messages.stream(model=model, **ASKED, **options) as stream:
                for number, _ in enumerate(stream, 1):
                    message = stream.current_message_snapshot
                    if "hold" in scenario and number == 2:
                        ended = {"sidetrace.end": "cancelled"}
                        break
        else:
            message = client.messages.create(model=model, **ASKED, **options)
    except anthropic.APIStatusError as error:
        failed, ended = True, failure(SEEN[-1]) if message is None else {"error.type": error.body["error"]["type"]}
    except Exception as error:
        assert "Protocol" in type(error).__name__ or isinstance(error, anthropic.APIConnectionError), error
        ended, failed = {"sidetrace.end": "broken"}, True
    tried = SEEN[before:]
    for number, response in enumerate(tried[:-1]):
        tell(model, {**common, **reply(), **usage(), **failure(response)}, number, response, failed=True)
    reasons = message and message.stop_reason and [REASONS.get(message.stop_reason, message.stop_reason)]
    told = {**common, **reply(message and message.id, message and message.model, reasons), **counted(message and message.usage), "http.response.status_code": 200, **ended}
    tools = [{"id": block.id, "name": block.name, "arguments": block.input} for block in message.content if block.type == "tool_use"] if reasons else None
    tell(model, told, len(tried) - 1, tried[-1], failed=failed, present=FIRST if streamed and message else (), tools=tools)


def tell(model, attributes, resent, response, **more):
    named = {"sidetrace.response.request_id": response.headers.get("request-id")}
    llm("chat", "anthropic", "api.anthropic.com", 443, model, {**attributes, **named}, resent=resent, **more)


async def at_once():
    client = anthropic.AsyncAnthropic(api_key="sk-x", timeout=20)

    async def one(number):
        model = f"claude-x.{V}.async-{number}-tools{'-cache' if number % 2 else ''}"
        async with client.messages.stream(model=model, **ASKED) as stream:
            message = await stream.get_final_message()
        tools = [{"id": block.id, "name": block.name, "arguments": block.input} for block in message.content if block.type == "tool_use"]
        llm("chat", "anthropic", "api.anthropic.com", 443, model, {**asked(True), **reply(message.id, message.model, [REASONS[message.stop_reason]]), **counted(message.usage)}, tools=tools)

    await asyncio.gather(*(one(number) for number in range(8)))


def main():
    client = anthropic.Anthropic(api_key="sk-x", timeout=20, http_client=anthropic.DefaultHttpxClient(event_hooks={"response": [keep]}))
    cached = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    effort = {"extra_body": {"output_config": {"effort": "high"}}}
    for streamed in (False, True):
        stream = "stream-" if streamed else ""
        call(client, f"{stream}plain", streamed, stop_sequences=["END"])
        call(client, f"{stream}tools-cache-gzip", streamed, tools=TOOLS, system=cached)
        call(client, f"{stream}thinking-tools-deflate", streamed, tools=TOOLS, **effort)
        for scenario in ("length", "sequence", "refusal", "pause", "window-cache"):
            call(client, f"{stream}{scenario}", streamed)
        call(client, f"{stream}overloaded", streamed)
        call(client, f"{stream}bad", streamed)
    for scenario in ("refused", "limited", "broken"):
        call(client, scenario)
    for scenario in ("stream-repeats-cache", "stream-error-cache", "stream-cut", "stream-cut-gzip-cache", "stream-hold", "stream-hold-gzip-cache"):
        call(client, scenario, True)
    client.messages.count_tokens(model="claude-x", messages=ASKED["messages"])
    http("POST", "https://api.anthropic.com/v1/messages/count_tokens")
    list(client.models.list())
    http("GET", "https://api.anthropic.com/v1/models")
    asyncio.run(at_once())


main()
