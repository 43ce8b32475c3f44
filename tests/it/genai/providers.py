#!/usr/bin/env python3
"""LLM providers behind their real names: `providers.py FOLDER NAME=ADDRESS=PORT…`. What they do is in the name of the model
that is asked for, `family.client.word-word-…`; ids, models and counts differ from answer to answer."""
import base64
import itertools
import json
import re
import signal
import sys
from urllib.parse import unquote

from wire import Answer, frame, listen, plain, sse, streamed

NUMBERS = itertools.count(1)


class Call:
    """A request, its number, and what the model's name asks for."""

    def __init__(self, request, model=None):
        self.request, self.n = request, next(NUMBERS)
        self.asked = request.json() if request.method == "POST" else {}
        self.model = model or self.asked.get("model", "")
        labels = self.model.split(".")
        self.case = re.sub(r"(-v\d)?(:.*)?$", "", labels[-1])
        self.client = labels[-2] if len(labels) > 1 else "any"
        self.words = set(self.case.split("-"))
        self.served = f"{self.model}-20260{self.n % 9 + 1}{self.n:02}"

    def has(self, word):
        return word in self.words

    def coding(self):
        """Half of the answers are compressed, for whoever takes that."""
        return "deflate" if self.has("deflate") else "gzip" if self.has("gzip") or self.n % 2 else None

    def id(self, prefix):
        return f"{prefix}{self.n:04}x{self.client}"

    def tokens(self):
        """Input, of which read from a cache, of which written to it; output, of which reasoning."""
        return 1000 + 13 * self.n, 400 + 7 * self.n, 100 + 3 * self.n, 300 + 11 * self.n, 50 + 5 * self.n

    def tried(self):
        return int(self.request.get("x-stainless-retry-count") or 0)

    def plain(self, status, data, *headers):
        return plain(self.request, status, data, [("x-request-id", self.id("req_")), *headers], self.coding())

    def stream(self, pieces, kind="text/event-stream"):
        """The words cut and hold end it in its middle."""
        end = "cut" if self.has("cut") else "hold" if self.has("hold") else "keep"
        pieces = pieces if end == "keep" else pieces[: (len(pieces) + 1) // 2]
        return streamed(self.request, pieces, kind, [("x-request-id", self.id("req_"))], self.coding(), end)

    def kept(self, answer, format):
        tried = self.tried()
        answer.kept = (format, f"{self.case}-{self.client}" + (f"-try-{tried}" if tried else ""))
        return answer


# OpenAI and who speaks like it


def openai(request):
    if request.method == "GET":
        if "/responses/" in request.path:
            return openai_fetched(request)
        return plain(request, 200, {"object": "list", "data": [{"id": "gpt-x", "object": "model", "created": 1, "owned_by": "openai"}]})
    path = request.path
    if path.endswith("/traces/ingest") or path.endswith("/input_tokens"):
        return plain(request, 200, {"object": "response.input_tokens", "input_tokens": 5})
    deployment = re.search(r"/deployments/([^/]*)/", path)
    call = Call(request, deployment and deployment[1])
    azure = request.name.endswith("azure.com")
    if path.endswith("/chat/completions"):
        return call.kept(openai_failure(call) or openai_chat(call, azure), "azure" if azure else "openai_chat")
    if path.endswith("/completions"):
        return call.kept(openai_failure(call) or openai_completion(call), "azure" if azure else "openai_completions")
    if path.endswith("/embeddings"):
        return call.kept(openai_failure(call) or openai_embeddings(call), "azure" if azure else "openai_embeddings")
    if path.endswith("/responses"):
        return call.kept(openai_failure(call) or openai_response(call), "azure" if azure else "openai_responses")
    return plain(request, 404, {"error": {"message": "no such path", "type": "invalid_request_error", "param": None, "code": None}})


def openai_failure(call):
    def error(kind, code, message="no"):
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}

    if call.has("limited") and call.tried() < 2:
        return call.plain(429, error("requests", "rate_limit_exceeded"), ("retry-after-ms", "1"))
    if call.has("quota"):
        return call.plain(429, error("insufficient_quota", "insufficient_quota"), ("x-should-retry", "false"))
    if call.has("bad"):
        return call.plain(400, error("invalid_request_error", None))
    if call.has("filtered"):
        return call.plain(400, {"error": {"message": "filtered", "type": None, "param": "prompt", "code": "content_filter", "status": 400}})
    if call.has("numbered"):
        return call.plain(400, error("BadRequestError", 400))
    if call.has("refused"):
        return call.plain(401, error("invalid_request_error", "invalid_api_key"))
    if call.has("broken"):
        return call.plain(500, error("server_error", None))
    if call.has("gateway"):
        return call.plain(502, b"<html>502 Bad Gateway</html>")
    return None


def openai_usage(call, first="prompt", second="completion"):
    given, read, written, made, thought = call.tokens()
    usage = {f"{first}_tokens": given, f"{second}_tokens": made, "total_tokens": given + made}
    if not call.has("bare"):
        usage[f"{first}_tokens_details"] = {"cached_tokens": read, **({"cache_write_tokens": written} if call.has("written") else {})}
        usage[f"{second}_tokens_details"] = {"reasoning_tokens": thought}
        if call.has("audio"):
            usage["prompt_tokens_details"]["audio_tokens"] = 11 + call.n
            usage["completion_tokens_details"]["audio_tokens"] = 12 + call.n
    return usage


def tool_calls(call):
    return [{"id": call.id(f"call_{city}"), "type": "function", "function": {"name": "weather", "arguments": json.dumps({"city": city, "n": call.n})}}
            for city in ("Paris", "Gr\u00fc\u00df")]


def openai_chat(call, azure):
    words = {"tools": "tool_calls", "length": "length", "unsafe": "content_filter", "function": "function_call"}
    reasons = [next((reason for word, reason in words.items() if call.has(word)), "stop")]
    if call.asked.get("n"):
        reasons = [reasons[0], "length"]
    base = {"id": call.id("chatcmpl-"), "created": 1, "model": call.served, "service_tier": "default", "system_fingerprint": f"fp_{call.n}"}
    if call.asked.get("stream"):
        return openai_chat_stream(call, azure, base, reasons)

    def message(reason):
        said = {"role": "assistant", "content": None if reason == "tool_calls" else "H\u00e9llo", "refusal": None}
        return {**said, "tool_calls": tool_calls(call)} if reason == "tool_calls" else said

    choices = [{"index": index, "message": message(reason), "logprobs": None, "finish_reason": reason} for index, reason in enumerate(reasons)]
    # Any order is allowed.
    answer = {"object": "chat.completion", "choices": choices[::-1], "usage": openai_usage(call), **base}
    if azure:
        answer = {"prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}], **answer}
    return call.plain(200, answer)


def openai_chat_stream(call, azure, base, reasons):
    base["object"] = "chat.completion.chunk"
    asked = (call.asked.get("stream_options") or {}).get("include_usage")
    usage = {"usage": None} if asked else {}
    events = []

    def add(index, delta, reason=None):
        # What compatible servers do that say usage in each chunk.
        running = {"usage": {"prompt_tokens": 7, "completion_tokens": len(events), "total_tokens": 7}} if call.has("continuous") else usage
        events.append(("", {**base, "choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}], **running}))

    if azure:
        events.append(("", {"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}))
    for index, reason in enumerate(reasons):
        add(index, {"role": "assistant", "content": "" if reason != "tool_calls" else None, "refusal": None})
        if reason == "tool_calls":
            for at, tool in enumerate(tool_calls(call)):
                arguments = tool["function"]["arguments"]
                add(index, {"tool_calls": [{"index": at, **tool, "function": {"name": "weather", "arguments": ""}}]})
                for part in (arguments[:5], arguments[5:]):
                    add(index, {"tool_calls": [{"index": at, "function": {"arguments": part}}]})
        else:
            if call.has("thinking"):
                add(index, {"reasoning_content": "Hmm"})
            for part in ("H\u00e9l", "lo ", "\U0001f600"):
                add(index, {"content": part})
    if call.has("error"):
        events.append(("", {"error": {"message": "overloaded", "type": "server_error", "code": "server_overloaded", "param": None}}))
        return call.stream(sse(*events))
    for index, reason in enumerate(reasons):
        add(index, {}, reason)
    if asked:
        events.append(("", {**base, "choices": [], "usage": openai_usage(call)}))
    pieces = sse(*events, ("", "[DONE]"))
    if call.has("crlf"):
        pieces = [b": ping\r\n\r\n", *(piece.replace(b"\n", b"\r\n") for piece in pieces)]
    return call.stream(pieces)


def openai_completion(call):
    base = {"id": call.id("cmpl-"), "object": "text_completion", "created": 1, "model": call.served}
    reason = "length" if call.has("length") else "stop"
    if not call.asked.get("stream"):
        return call.plain(200, {**base, "choices": [{"text": "Hi", "index": 0, "logprobs": None, "finish_reason": reason}], "usage": openai_usage(call)})
    events = [("", {**base, "choices": [{"text": part, "index": 0, "logprobs": None, "finish_reason": end}]}) for part, end in (("H", None), ("i", None), ("", reason))]
    if (call.asked.get("stream_options") or {}).get("include_usage"):
        events.append(("", {**base, "choices": [], "usage": openai_usage(call)}))
    return call.stream(sse(*events, ("", "[DONE]")))


def openai_embeddings(call):
    inputs = call.asked["input"] if isinstance(call.asked["input"], list) else [call.asked["input"]]
    vector = base64.b64encode(bytes(16)).decode() if call.asked.get("encoding_format") == "base64" else [0.0, 0.5, -0.25, 1e-7]
    data = [{"object": "embedding", "index": index, "embedding": vector} for index in range(len(inputs))]
    given = call.tokens()[0]
    return call.plain(200, {"object": "list", "data": data, "model": call.served, "usage": {"prompt_tokens": given, "total_tokens": given}})


def openai_response_object(call, status="in_progress", **more):
    asked = {name: call.asked[name] for name in ("previous_response_id", "instructions") if name in call.asked}
    conversation = call.asked.get("conversation")
    if conversation:
        asked["conversation"] = {"id": conversation if isinstance(conversation, str) else conversation["id"]}
    return {"id": call.id("resp_"), "object": "response", "created_at": 1, "status": status, "error": None, "incomplete_details": None,
            "model": call.served, "output": [], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "service_tier": "default", **asked, **more}


def openai_response(call):
    if call.asked.get("background"):
        return call.plain(200, openai_response_object(call, "queued"))
    text = {"id": call.id("msg_"), "type": "message", "status": "completed", "role": "assistant", "content": [{"type": "output_text", "text": "H\u00e9llo", "annotations": []}]}
    tools = [{"id": f"fc_{at}", "type": "function_call", "status": "completed", "call_id": tool["id"], **tool["function"]} for at, tool in enumerate(tool_calls(call))]
    thought = {"id": call.id("rs_"), "type": "reasoning", "summary": [{"type": "summary_text", "text": "Hmm"}]}
    output = ([thought] if call.has("thinking") else []) + (tools if call.has("tools") else [text])
    usage = openai_usage(call, "input", "output")
    usage["input_tokens_details"].setdefault("cache_write_tokens", 0)
    whole = {"output": output, "usage": usage}
    if call.has("length") or call.has("unsafe"):
        reason = "max_output_tokens" if call.has("length") else "content_filter"
        final, end = openai_response_object(call, "incomplete", **{**whole, "incomplete_details": {"reason": reason}}), "response.incomplete"
    elif call.has("failed"):
        final, end = openai_response_object(call, "failed", output=[], error={"code": "server_error", "message": "sorry"}), "response.failed"
    else:
        final, end = openai_response_object(call, "completed", **whole), "response.completed"
    if not call.asked.get("stream"):
        return call.plain(200, final)
    events = [("response.created", {"response": openai_response_object(call)}), ("response.in_progress", {"response": openai_response_object(call)})]
    for index, item in enumerate(output):
        events += openai_item(index, item)
    if call.has("error"):
        events.append(("error", {"code": "rate_limit_exceeded", "message": "slowly", "param": None}))
    else:
        events.append((end, {"response": final}))
    return call.stream(sse(*((name, {"type": name, "sequence_number": at, **data}) for at, (name, data) in enumerate(events))))


def openai_item(index, item):
    at = {"output_index": index, "item_id": item["id"]}
    yield "response.output_item.added", {"output_index": index, "item": {**item, "status": "in_progress", **({"content": []} if "content" in item else {}), **({"arguments": ""} if "arguments" in item else {})}}
    if item["type"] == "function_call":
        for part in (item["arguments"][:6], item["arguments"][6:]):
            yield "response.function_call_arguments.delta", {**at, "delta": part}
        yield "response.function_call_arguments.done", {**at, "arguments": item["arguments"]}
    elif item["type"] == "message":
        yield "response.content_part.added", {**at, "content_index": 0, "part": {"type": "output_text", "text": "", "annotations": []}}
        for part in ("H\u00e9l", "lo"):
            yield "response.output_text.delta", {**at, "content_index": 0, "delta": part, "logprobs": []}
        yield "response.output_text.done", {**at, "content_index": 0, "text": "H\u00e9llo", "logprobs": []}
        yield "response.content_part.done", {**at, "content_index": 0, "part": item["content"][0]}
    yield "response.output_item.done", {"output_index": index, "item": item}


def openai_fetched(request):
    call = Call(request, f"gpt-x.{request.path.rsplit('x', 1)[-1]}.fetched")
    text = {"id": "msg_f", "type": "message", "status": "completed", "role": "assistant", "content": [{"type": "output_text", "text": "Hi", "annotations": []}]}
    usage = openai_usage(call, "input", "output")
    usage["input_tokens_details"].setdefault("cache_write_tokens", 0)
    return call.kept(call.plain(200, openai_response_object(call, "completed", id=request.path.rsplit("/", 1)[-1], output=[text], usage=usage)), "openai_responses")


# Anthropic


def anthropic(request):
    if request.method == "GET":
        return plain(request, 200, {"data": [], "has_more": False, "first_id": None, "last_id": None})
    call = Call(request)
    named = ("request-id", call.id("req_"))
    if request.path.endswith("/count_tokens"):
        return plain(request, 200, {"input_tokens": 17})
    return call.kept(anthropic_failure(call, named) or anthropic_message(call, named), "anthropic")


def anthropic_failure(call, named):
    def error(status, kind, *headers):
        return call.plain(status, {"type": "error", "error": {"type": kind, "message": "no"}, "request_id": named[1]}, named, *headers)

    if call.has("overloaded") and call.tried() < 1:
        return error(529, "overloaded_error", ("retry-after-ms", "1"))
    if call.has("limited"):
        return error(429, "rate_limit_error", ("x-should-retry", "false"))
    if call.has("bad"):
        return error(400, "invalid_request_error")
    if call.has("refused"):
        return error(401, "authentication_error")
    if call.has("broken"):
        return error(500, "api_error", ("x-should-retry", "false"))
    return None


def anthropic_body(call, words=None):
    """A message with all its blocks, as InvokeModel gives it too."""
    given, read, written, made, thought = call.tokens()
    stops = {"tools": "tool_use", "length": "max_tokens", "sequence": "stop_sequence", "refusal": "refusal", "pause": "pause_turn", "window": "model_context_window_exceeded"}
    stop = next((reason for word, reason in stops.items() if call.has(word)), "end_turn")
    blocks = [{"type": "thinking", "thinking": "Hmm", "signature": "c2ln"}] if call.has("thinking") else []
    blocks.append({"type": "text", "text": "H\u00e9llo"})
    if stop == "tool_use":
        blocks += [{"type": "tool_use", "id": call.id(f"toolu_{city}"), "name": "weather", "input": {"city": city, "n": call.n}} for city in ("Paris", "Rome")]
        blocks.append({"type": "tool_use", "id": call.id("toolu_none"), "name": "now", "input": {}})
    usage = {"input_tokens": given, "output_tokens": made, "service_tier": "standard"}
    if call.has("cache"):
        usage |= {"cache_creation_input_tokens": written, "cache_read_input_tokens": read}
    if call.has("thinking"):
        usage["output_tokens_details"] = {"thinking_tokens": thought}
    return {"id": call.id("msg_"), "type": "message", "role": "assistant", "model": call.served, "content": blocks, "stop_reason": stop,
            "stop_sequence": "END" if stop == "stop_sequence" else None, "usage": usage}


def anthropic_message(call, named):
    message = anthropic_body(call)
    if not call.asked.get("stream"):
        return call.plain(200, message, named)
    answer = call.stream(sse(*((event["type"], event) for event in anthropic_events(call, message))))
    answer.headers.append(named)
    return answer


def anthropic_events(call, message):
    usage = message["usage"]
    first = {**message, "content": [], "stop_reason": None, "stop_sequence": None, "usage": {**usage, "output_tokens": 1}}
    first["usage"].pop("output_tokens_details", None)
    yield {"type": "message_start", "message": first}
    yield {"type": "ping"}
    for index, block in enumerate(message["content"]):
        empty = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}, "tool_use": {"input": {}}}[block["type"]]
        yield {"type": "content_block_start", "index": index, "content_block": {**block, **empty}}
        if block["type"] == "text":
            deltas = [{"type": "text_delta", "text": part} for part in ("H\u00e9l", "lo")]
        elif block["type"] == "thinking":
            deltas = [{"type": "thinking_delta", "thinking": "Hmm"}, {"type": "signature_delta", "signature": "c2ln"}]
        else:
            arguments = json.dumps(block["input"]) if block["input"] else ""
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in ("", arguments[:4], arguments[4:])]
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    if call.has("error"):
        yield {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": call.id("req_")}
        return
    told = {"output_tokens": usage["output_tokens"]}
    if call.has("repeats"):
        told = {key: value for key, value in usage.items() if key.endswith("_tokens")}
    if "output_tokens_details" in usage:
        told["output_tokens_details"] = usage["output_tokens_details"]
    yield {"type": "message_delta", "delta": {"stop_reason": message["stop_reason"], "stop_sequence": message["stop_sequence"]}, "usage": told}
    yield {"type": "message_stop"}


# Gemini


def gemini(request):
    found = re.search(r"/models/([^:/]*):(\w+)$", request.path)
    if not found:
        return plain(request, 200, {"models": [{"name": "models/gemini-x"}]})
    call, act = Call(request, unquote(found[1])), found[2]
    if "mbedContent" in act:
        return call.kept(gemini_failure(call) or gemini_embed(call, act), "gemini_embed")
    if act == "countTokens":
        return plain(request, 200, {"totalTokens": 9})
    return call.kept(gemini_failure(call) or gemini_content(call, act), "gemini")


def gemini_failure(call):
    codes = {"limited": (429, "RESOURCE_EXHAUSTED"), "bad": (400, "INVALID_ARGUMENT"), "refused": (403, "PERMISSION_DENIED"), "broken": (500, "INTERNAL")}
    for word, (code, status) in codes.items():
        if call.has(word):
            return call.plain(code, {"error": {"code": code, "message": "no", "status": status, "details": []}})
    return None


def gemini_content(call, act):
    given, read, _, made, thought = call.tokens()
    base = {"modelVersion": call.served, "responseId": call.id("g")}
    usage = {"promptTokenCount": given, "candidatesTokenCount": made, "totalTokenCount": given + made}
    if call.has("thinking"):
        usage |= {"thoughtsTokenCount": thought, "totalTokenCount": given + made + thought}
    if call.has("cache"):
        usage["cachedContentTokenCount"] = read
    if call.has("modes"):
        usage |= {"toolUsePromptTokenCount": 5 + call.n, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": given - 50}, {"modality": "IMAGE", "tokenCount": 50}],
                  "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": made}]}
    if call.has("blocked"):
        only = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": given, "totalTokenCount": given}, **base}
        chunks = [only]
    else:
        reasons = {"length": "MAX_TOKENS", "unsafe": "SAFETY", "malformed": "MALFORMED_FUNCTION_CALL"}
        reason = next((reason for word, reason in reasons.items() if call.has(word)), "STOP")
        thoughts = [{"text": "Hmm", "thought": True}] if call.has("thinking") else []
        function = {"functionCall": {"name": "weather", "args": {"city": "Paris", "n": call.n}, **({"id": call.id("fc_")} if call.has("named") else {})}}
        said = [function] if call.has("tools") else [] if call.has("malformed") else [{"text": "H\u00e9llo"}]

        def chunk(parts, **more):
            return {"candidates": [{"content": {"role": "model", "parts": parts}, "index": 0, **more}], **base}

        whole = [chunk(thoughts + said, finishReason=reason)]
        if call.has("candidates"):
            whole[0]["candidates"].append({"content": {"role": "model", "parts": [{"text": "Other"}]}, "index": 1, "finishReason": "MAX_TOKENS"})
        early = {"usageMetadata": {"promptTokenCount": given, "totalTokenCount": given}}
        chunks = [*({**chunk([part]), **early} for part in [*thoughts, {"text": "Let"}, {"text": " me"}]), chunk(said, finishReason=reason)] if "stream" in act else whole
        chunks[-1]["usageMetadata"] = usage
    if "stream" not in act:
        return call.plain(200, chunks[0])
    if "alt=sse" in call.request.target:
        return call.stream([piece.replace(b"\n", b"\r\n") for piece in sse(*(("", chunk) for chunk in chunks))])
    texts = [json.dumps(chunk, indent=1).encode() for chunk in chunks]
    return call.stream([b"[" + texts[0], *(b",\r\n" + text for text in texts[1:]), b"]"], "application/json; charset=UTF-8")


def gemini_embed(call, act):
    one = {"values": [0.0, 0.5, -0.25]}
    if act == "embedContent":
        return call.plain(200, {"embedding": one, **({"usageMetadata": {"promptTokenCount": call.tokens()[0]}} if call.has("usage") else {})})
    return call.plain(200, {"embeddings": [one for _ in call.asked["requests"]]})


# Bedrock


def bedrock(request):
    found = re.search(r"/model/([^/]*)/([\w-]+)$", request.path)
    call, act = Call(request, unquote(found[1])), found[2]
    format = "bedrock_converse" if "converse" in act else "bedrock_invoke"
    answer = bedrock_failure(call) or (bedrock_converse(call, act) if "converse" in act else bedrock_invoke(call, act))
    answer.headers.append(("x-amzn-requestid", call.id("aws-")))
    return call.kept(answer, format)


def bedrock_failure(call):
    attempt = re.search(r"attempt=(\d+)", call.request.get("amz-sdk-request") or "attempt=1")
    codes = {"throttled": (429, "ThrottlingException"), "bad": (400, "ValidationException"), "refused": (403, "AccessDeniedException"),
             "missing": (404, "ResourceNotFoundException"), "broken": (500, "InternalServerException")}
    for word, (status, name) in codes.items():
        if call.has(word) and (word != "throttled" or int(attempt[1]) < 2):
            named = [] if call.has("body") else [("x-amzn-errortype", f"{name}:http://internal.amazon.com/coral/com.amazon.bedrock/")]
            body = {"message": "no", **({"__type": f"com.amazon.bedrock#{name}"} if call.has("body") else {})}
            return call.plain(status, body, *named)
    return None


def bedrock_converse(call, act):
    given, read, written, made, _ = call.tokens()
    stops = {"tools": "tool_use", "length": "max_tokens", "sequence": "stop_sequence", "guarded": "guardrail_intervened", "unsafe": "content_filtered", "window": "model_context_window_exceeded"}
    stop = next((reason for word, reason in stops.items() if call.has(word)), "end_turn")
    usage = {"inputTokens": given, "outputTokens": made, "totalTokens": given + made}
    if call.has("cache"):
        usage |= {"cacheReadInputTokens": read, "cacheWriteInputTokens": written, "totalTokens": given + made + read + written}
    thought = [{"reasoningContent": {"reasoningText": {"text": "Hmm", "signature": "c2ln"}}}] if call.has("thinking") else []
    tool = {"toolUseId": call.id("tooluse_"), "name": "weather", "input": {"city": "Gr\u00fc\u00df", "n": call.n}}
    content = [*thought, {"text": "H\u00e9llo"}, *([{"toolUse": tool}] if stop == "tool_use" else [])]
    if act == "converse":
        return call.plain(200, {"metrics": {"latencyMs": 12}, "output": {"message": {"role": "assistant", "content": content}}, "stopReason": stop, "usage": usage})
    frames = [frame("messageStart", {"role": "assistant", "p": "abc"})]
    for index, block in enumerate(content):
        if "toolUse" in block:
            frames.append(frame("contentBlockStart", {"contentBlockIndex": index, "start": {"toolUse": {"toolUseId": tool["toolUseId"], "name": "weather"}}}))
            text = json.dumps(tool["input"])
            deltas = [{"toolUse": {"input": part}} for part in (text[:3], text[3:])]
        elif "text" in block:
            deltas = [{"text": part} for part in ("H\u00e9l", "lo")]
        else:
            deltas = [{"reasoningContent": {"text": "Hmm"}}, {"reasoningContent": {"signature": "c2ln"}}]
        frames += [frame("contentBlockDelta", {"contentBlockIndex": index, "delta": delta}) for delta in deltas]
        frames.append(frame("contentBlockStop", {"contentBlockIndex": index}))
    if call.has("exception"):
        frames.append(frame("modelStreamErrorException", {"message": "sorry", "originalStatusCode": 500}, "exception"))
    else:
        frames += [frame("messageStop", {"stopReason": stop}), frame("metadata", {"usage": usage, "metrics": {"latencyMs": 12}})]
    return call.stream(frames, "application/vnd.amazon.eventstream")


def bedrock_invoke(call, act):
    given, _, _, made, _ = call.tokens()
    if "anthropic" in call.model:
        whole = anthropic_body(call)
        chunks = list(anthropic_events(call, whole))
        counts = (whole["usage"]["input_tokens"], whole["usage"]["output_tokens"])
    elif "nova" in call.model:
        whole = {"output": {"message": {"role": "assistant", "content": [{"text": "Hi"}]}}, "stopReason": "end_turn", "usage": {"inputTokens": given, "outputTokens": made, "totalTokens": given + made}}
        chunks = [{"messageStart": {"role": "assistant"}}, {"contentBlockDelta": {"delta": {"text": "Hi"}, "contentBlockIndex": 0}}, {"contentBlockStop": {"contentBlockIndex": 0}},
                  {"messageStop": {"stopReason": "end_turn"}}, {"metadata": {"usage": whole["usage"]}}]
        counts = (given, made)
    elif "llama" in call.model:
        whole = {"generation": "Hi", "prompt_token_count": given, "generation_token_count": made, "stop_reason": "stop"}
        chunks = [{"generation": "H", "prompt_token_count": given, "generation_token_count": 1, "stop_reason": None}, {"generation": "i", "prompt_token_count": None, "generation_token_count": made, "stop_reason": "stop"}]
        counts = (given, made)
    elif "embed" in call.model:
        whole, chunks, counts = {"embedding": [0.0, 0.5], "inputTextTokenCount": given}, [], (given, 0)
    else:
        whole = {"inputTextTokenCount": given, "results": [{"tokenCount": made, "outputText": "Hi", "completionReason": "FINISH"}]}
        chunks = [{"outputText": "Hi", "index": 0, "totalOutputTextTokenCount": made, "completionReason": "FINISH", "inputTextTokenCount": given}]
        counts = (given, made)
    if act == "invoke":
        return call.plain(200, whole, ("x-amzn-bedrock-input-token-count", str(counts[0])), ("x-amzn-bedrock-output-token-count", str(counts[1])))
    if not call.has("error"):
        chunks[-1]["amazon-bedrock-invocationMetrics"] = {"inputTokenCount": counts[0], "outputTokenCount": counts[1], "invocationLatency": 10, "firstByteLatency": 5}
    frames = [frame("chunk", {"bytes": base64.b64encode(json.dumps(chunk).encode()).decode(), "p": "abcdef"[: at % 6]}) for at, chunk in enumerate(chunks)]
    if call.has("exception"):
        frames = [*frames[:2], frame("throttlingException", {"message": "slowly"}, "exception")]
    return call.stream(frames, "application/vnd.amazon.eventstream")


# Ollama


def ollama(request):
    if request.method == "GET":
        return plain(request, 200, {"models": []})
    return (call := Call(request)).kept(ollama_answer(call), "ollama")


def ollama_answer(call):
    given, _, _, made, _ = call.tokens()
    # Its answers repeat the name that was asked for.
    base = {"model": call.model, "created_at": "2026-01-01T00:00:00.5Z"}
    if call.has("missing"):
        return call.plain(404, {"error": f"model '{call.model}' not found"})
    if call.has("broken"):
        return call.plain(500, {"error": "out of memory"})
    if call.request.path.endswith("/embed"):
        return call.plain(200, {"model": call.model, "embeddings": [[0.0, 0.5]], "total_duration": 5, "load_duration": 1, "prompt_eval_count": given})
    chat = call.request.path.endswith("/chat")
    told = {"total_duration": 9, "load_duration": 1, "prompt_eval_duration": 2, "eval_count": made, "eval_duration": 3}
    if not call.has("cached"):  # the prompt was in its cache
        told["prompt_eval_count"] = given
    done = {"done": True, "done_reason": "length" if call.has("length") else "stop", **told}
    tools = {"tool_calls": [{"function": {"index": 0, "name": "weather", "arguments": {"city": "Paris", "n": call.n}}}]} if call.has("tools") else {}

    def said(text, **more):
        return {"message": {"role": "assistant", "content": text, **more}} if chat else {"response": text}

    if call.asked.get("stream") is False:
        return call.plain(200, {**base, **said("" if tools else "Hello", **tools), **done})
    lines = [{**base, **said(part), "done": False} for part in ("H\u00e9l", "lo", "!")]
    if call.has("thinking"):
        lines.insert(0, {**base, **said("", thinking="Hmm"), "done": False})
    if tools:
        lines.append({**base, **said("", **tools), "done": False})
    lines.append({"error": "the runner has gone"} if call.has("error") else {**base, **said(""), **done})
    return call.stream([json.dumps(line).encode() + b"\n" for line in lines], "application/x-ndjson")


# JSON-RPC that is not MCP


def jsonrpc(request):
    asked, call = request.json(), Call(request, f"rpc.{request.get('x-client') or 'any'}.{request.path.rsplit('/', 1)[-1]}")

    def answer(one):
        if "id" not in one:
            return None
        base = {"jsonrpc": "2.0", "id": one["id"]}
        if one["method"].startswith("no"):
            return {**base, "error": {"code": -32601, "message": "Method not found"}}
        return {**base, "result": hex(call.n)}

    told = [one for one in map(answer, asked) if one] if isinstance(asked, list) else answer(asked)
    return call.kept(call.plain(200, told) if told else Answer(202, [], []), "jsonrpc")


ROUTES = {"api.openai.com": openai, "azure.com": openai, "groq.com": openai, "vllm.example": openai, "anthropic.com": anthropic,
          "googleapis.com": gemini, "amazonaws.com": bedrock, "ollama.example": ollama, "jsonrpc.example": jsonrpc}

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for word in sys.argv[2:]:
        name, address, port = word.split("=")
        listen(sys.argv[1], name, address, int(port), next(route for end, route in ROUTES.items() if name.endswith(end)))
    print("listening", flush=True)
    signal.pause()
