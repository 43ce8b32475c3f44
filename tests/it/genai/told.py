"""What a client's library says of a call, one line of JSON for each: the span that must be there.

`span` is its name; `match` are the attributes that find it; `attributes` all that must be as they stand (null: must not be
there); `present` those that must be there; `failed` whether it is an error; `tools` the calls of tools that it asks for."""
import json


def say(span, match, attributes, failed=False, present=(), tools=None, kind="client", status=None):
    attributes = {**attributes, **({"http.response.status_code": status} if status else {})}
    line = {"span": span, "match": match, "attributes": attributes, "failed": failed, "present": list(present), "kind": kind}
    print(json.dumps(line if tools is None else {**line, "tools": tools}), flush=True)


def http(method, url, status=200):
    """A call that is neither of an LLM nor of MCP."""
    nothing = dict.fromkeys(("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.usage.input_tokens", "mcp.method.name", "jsonrpc.request.id"))
    say(method, {"http.request.method": method, "url.full": url}, {**nothing, "http.response.status_code": status}, failed=status >= 400)


def llm(operation, provider, host, port, model, attributes, *, api=None, resent=0, failed=False, present=(), tools=None):
    """A call of an LLM: no model is asked for twice, but where a call was tried again."""
    base = {"gen_ai.operation.name": operation, "gen_ai.provider.name": provider, "server.address": host, "server.port": port, "mcp.method.name": None}
    if api:
        base["openai.api.type"] = api
    if failed and attributes.get("gen_ai.response.id") and not attributes.get("gen_ai.response.finish_reasons"):
        attributes = {key: value for key, value in attributes.items() if key != "gen_ai.response.finish_reasons"}  # none, or "error"
    match = {"gen_ai.request.model": model, "http.request.resend_count": resent or None}
    say(f"{operation} {model}", match, {**base, "error.type": None, **attributes} if not failed else {**base, **attributes}, failed, present, tools)


def usage(given=None, made=None, read=None, written=None, thought=None):
    """Counts as the library gives them; where it gives none there must be none."""
    return {"gen_ai.usage.input_tokens": given, "gen_ai.usage.output_tokens": made, "gen_ai.usage.cache_read.input_tokens": read,
            "gen_ai.usage.cache_write.input_tokens": written, "gen_ai.usage.reasoning.output_tokens": thought}


def reply(id=None, model=None, reasons=None):
    return {"gen_ai.response.id": id, "gen_ai.response.model": model, "gen_ai.response.finish_reasons": reasons or None}


def asked(streamed=False, **options):
    """What the request says."""
    told = {f"gen_ai.request.{name}": value for name, value in options.items()}
    return {**told, "gen_ai.request.stream": True if streamed else None}


FIRST = ("gen_ai.response.time_to_first_chunk",)
