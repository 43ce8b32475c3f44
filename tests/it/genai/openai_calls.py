#!/usr/bin/env python3
"""OpenAI's library as its documentation says to use it; works with the generations 2 and 3."""
import asyncio
import json

import openai
from told import FIRST, asked, http, llm, reply, say, usage

V = f"py{openai.__version__.split('.')[0]}"
REASONS = {"tool_calls": "tool_call", "function_call": "tool_call"}
ASKED = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Gr\u00fc\u00dfe \U0001f600"}]}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]
FLAT = [{"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}, "strict": False}]
OPTIONS = {"temperature": 0.5, "top_p": 0.9, "seed": 7, "max_completion_tokens": 55, "presence_penalty": 0.25, "frequency_penalty": -0.5, "stop": ["END", "\n"], "reasoning_effort": "high"}


class Attempts:
    """Every exchange that the library makes, retries included, as its own HTTP client shows it."""

    def __init__(self):
        self.seen = []

    def __call__(self, response):
        if response.status_code >= 400:
            response.read()
        self.seen.append(response)

    async def wait(self, response):
        if response.status_code >= 400:
            await response.aread()
        self.seen.append(response)


class Place:
    def __init__(self, make, host, port, provider, **options):
        self.attempts = Attempts()
        self.host, self.port, self.provider = host, port, provider
        hooks = {"event_hooks": {"response": [self.attempts]}}
        self.client = make(api_key="sk-x", timeout=20, http_client=openai.DefaultHttpxClient(**hooks), **options)

    def tell(self, operation, model, attributes, api=None, resent=0, **more):
        # The conventions give it to OpenAI's own API.
        api = api if "openai" in self.provider else None
        llm(operation, self.provider, self.host, self.port, model, attributes, api=api, resent=resent, **more)

    def earlier(self, operation, model, common, before, api):
        """The attempts that the library did not tell of; how many."""
        for number, response in enumerate(self.attempts.seen[before:-1]):
            self.tell(operation, model, {**common, **reply(), **usage(), **failure(response), **named(response)}, api, number, failed=True)
        return max(len(self.attempts.seen) - before - 1, 0)


def named(response):
    return {"sidetrace.response.request_id": response.headers.get("x-request-id")}


def failure(response):
    try:
        error = response.json()["error"]
    except ValueError:
        error = {}
    kind = error.get("code") if isinstance(error.get("code"), str) else error.get("type")
    return {"error.type": kind or str(response.status_code), "http.response.status_code": response.status_code}


class Gathered:
    """A streamed answer, as its chunks tell it."""

    def __init__(self):
        self.id = self.model = self.usage = self.tier = self.fingerprint = None
        self.reasons, self.tools = {}, {}

    def add(self, chunk):
        self.id, self.model = self.id or chunk.id or None, self.model or chunk.model or None
        self.usage = chunk.usage or self.usage
        self.tier, self.fingerprint = getattr(chunk, "service_tier", None) or self.tier, chunk.system_fingerprint or self.fingerprint
        for choice in chunk.choices:
            self.reasons.setdefault(choice.index, None)
            self.reasons[choice.index] = choice.finish_reason or self.reasons[choice.index]
            for part in getattr(getattr(choice, "delta", None), "tool_calls", None) or []:
                tool = self.tools.setdefault((choice.index, part.index), {"id": "", "name": "", "arguments": ""})
                tool["id"] += part.id or ""
                tool["name"] += part.function.name or ""
                tool["arguments"] += part.function.arguments or ""

    def whole(self, answer):
        self.id, self.model, self.usage = answer.id, answer.model, answer.usage
        self.tier, self.fingerprint = getattr(answer, "service_tier", None), answer.system_fingerprint
        for choice in answer.choices:
            self.reasons[choice.index] = choice.finish_reason
            for at, tool in enumerate(getattr(getattr(choice, "message", None), "tool_calls", None) or []):
                self.tools[choice.index, at] = {"id": tool.id, "name": tool.function.name, "arguments": tool.function.arguments}
        return self

    def attributes(self):
        reasons = [self.reasons[index] for index in sorted(self.reasons)]
        reasons = [REASONS.get(reason, reason) for reason in reasons] if all(reasons) else None
        return {**reply(self.id, self.model, reasons), **counted(self.usage), "openai.response.service_tier": self.tier, "openai.response.system_fingerprint": self.fingerprint}

    def called(self):
        return [{**tool, "arguments": json.loads(tool["arguments"])} for _, tool in sorted(self.tools.items())]


def counted(said):
    if said is None:
        return usage()
    if hasattr(said, "input_tokens"):
        given, made, inputs, outputs = said.input_tokens, said.output_tokens, said.input_tokens_details, said.output_tokens_details
    else:
        given, made = said.prompt_tokens, getattr(said, "completion_tokens", None)
        inputs, outputs = getattr(said, "prompt_tokens_details", None), getattr(said, "completion_tokens_details", None)
    told = usage(given, made, getattr(inputs, "cached_tokens", None), getattr(inputs, "cache_write_tokens", None), getattr(outputs, "reasoning_tokens", None))
    for side, details in (("input", inputs), ("output", outputs)):
        if getattr(details, "audio_tokens", None) is not None:
            told[f"gen_ai.usage.audio.{side}_tokens"] = details.audio_tokens
    return told


def request_of(options):
    names, stop = ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty"), options.get("stop")
    told = asked(options.get("stream"), **{name: options.get(name) for name in names}, max_tokens=options.get("max_completion_tokens") or options.get("max_tokens"),
                 stop_sequences=[stop] if isinstance(stop, str) else stop)
    told["gen_ai.request.reasoning.level"] = options.get("reasoning_effort")
    told["gen_ai.request.choice.count"] = options.get("n")
    told["gen_ai.output.type"] = "json" if "response_format" in options else None
    return told


def completion(place, scenario, operation="chat", **options):
    model = f"gpt-x.{V}.{scenario}"
    api = "chat_completions" if operation == "chat" else None
    create = place.client.chat.completions.create if operation == "chat" else place.client.completions.create
    common, before, gathered = request_of(options), len(place.attempts.seen), Gathered()
    ended, failed = {"sidetrace.end": None}, False
    options = {**(ASKED if operation == "chat" else {"prompt": "Once"}), **options}
    try:
        if options.get("stream"):
            for number, chunk in enumerate(stream := create(model=model, **options), 1):
                gathered.add(chunk)
                if "hold" in scenario and number == 2:
                    stream.close()
                    ended = {"sidetrace.end": "cancelled"}
                    break
        else:
            gathered.whole(create(model=model, **options))
    except openai.APIStatusError:
        ended, failed = failure(place.attempts.seen[-1]), True
    except openai.APIError as error:
        if error.body is not None:  # an event said so
            ended, failed = {"error.type": error.code or error.type}, True
        else:
            ended, failed = {"sidetrace.end": "broken"}, True
    except Exception as error:  # what the HTTP library says of a stream that was cut
        assert "Protocol" in type(error).__name__, error
        ended, failed = {"sidetrace.end": "broken"}, True
    resent = place.earlier(operation, model, common, before, api)
    told = {**common, **gathered.attributes(), "http.response.status_code": 200, **named(place.attempts.seen[-1]), **ended}
    present = FIRST if options.get("stream") and gathered.id else ()
    tools = gathered.called() if not failed and "sidetrace.end" in ended and ended["sidetrace.end"] is None else None
    place.tell(operation, model, told, api, resent, failed=failed, present=present, tools=tools)


def chats(place):
    completion(place, "plain")
    completion(place, "plain-gzip", **OPTIONS)
    completion(place, "plain-deflate", max_tokens=9, stop="END")
    completion(place, "tools", tools=TOOLS)
    completion(place, "tools-length", tools=TOOLS, n=2)
    completion(place, "length-audio-written", max_completion_tokens=1, response_format={"type": "json_object"})
    completion(place, "unsafe-bare")
    asking = {"stream": True, "stream_options": {"include_usage": True}}
    completion(place, "stream", stream=True)
    completion(place, "stream-gzip", stream=True, **OPTIONS)
    completion(place, "stream-usage", **asking)
    completion(place, "stream-usage-written-deflate", **asking)
    completion(place, "stream-tools-usage-gzip", tools=TOOLS, **asking)
    completion(place, "stream-tools-n", tools=TOOLS, n=2, **asking)
    completion(place, "stream-crlf-length", **asking)
    completion(place, "stream-error", **asking)
    completion(place, "stream-cut", **asking)
    completion(place, "stream-cut-gzip", **asking)
    completion(place, "stream-hold", **asking)
    completion(place, "stream-hold-gzip", **asking)
    completion(place, "limited")
    completion(place, "stream-limited", **asking)
    for scenario in ("bad", "refused", "quota"):
        completion(place, scenario)
    completion(place, "stream-bad", stream=True)


def errors_without_retry(place):
    place.client = place.client.with_options(max_retries=0)
    completion(place, "broken")
    completion(place, "gateway")
    completion(place, "stream-broken", stream=True)


def completions(place):
    for scenario, options in (("plain", {}), ("length", {"max_tokens": 3, "temperature": 0.0}), ("stream", {"stream": True}),
                              ("stream-usage", {"stream": True, "stream_options": {"include_usage": True}}), ("bad", {})):
        completion(place, f"text-{scenario}", "text_completion", **options)


def embeddings(place):
    for scenario, given, options in (("one", "hi", {}), ("many", ["a", "b", "c"], {"dimensions": 256}), ("numbers", [[1, 2], [3]], {"encoding_format": "float"}), ("bad", "hi", {})):
        model, before = f"embed-x.{V}.{scenario}", len(place.attempts.seen)
        common = {"gen_ai.embeddings.dimension.count": options.get("dimensions"), "gen_ai.response.id": None, "gen_ai.response.finish_reasons": None, "gen_ai.request.stream": None}
        if "encoding_format" in options:
            common["gen_ai.request.encoding_formats"] = [options["encoding_format"]]
        try:
            answer = place.client.embeddings.create(model=model, input=given, **options)
            told, failed = {"gen_ai.response.model": answer.model, **usage(answer.usage.prompt_tokens)}, False
        except openai.APIStatusError:
            told, failed = {**failure(place.attempts.seen[-1]), **usage()}, True
        resent = place.earlier("embeddings", model, common, before, None)
        place.tell("embeddings", model, {**common, **told, **named(place.attempts.seen[-1])}, None, resent, failed=failed)


def outcome(answer):
    """The finish reason of a response, as the conventions name it."""
    if answer.status == "completed":
        return "tool_call" if any(item.type == "function_call" for item in answer.output) else "stop"
    if answer.status == "incomplete":
        return {"max_output_tokens": "length"}.get(answer.incomplete_details.reason, answer.incomplete_details.reason)
    return "error"


def response(place, scenario, **options):
    model, before, final, seen = f"gpt-x.{V}.resp-{scenario}", len(place.attempts.seen), None, None
    ended, failed, name = {"sidetrace.end": None}, False, None
    common = asked(options.get("stream"), max_tokens=options.get("max_output_tokens"), temperature=options.get("temperature"))
    common["gen_ai.request.reasoning.level"] = options.get("reasoning", {}).get("effort")
    common["gen_ai.request.previous_response.id"] = options.get("previous_response_id")
    common["gen_ai.output.type"] = {"json_schema": "json"}.get(options.get("text", {}).get("format", {}).get("type"))
    common["gen_ai.conversation.id"] = options.get("conversation")
    try:
        if options.get("stream"):
            for number, event in enumerate(stream := place.client.responses.create(model=model, **{"input": "hi", **options}), 1):
                if hasattr(event, "response"):
                    seen = event.response
                    final = seen if event.type not in ("response.created", "response.in_progress") else None
                if event.type == "error":
                    failed, name = True, event.code
                if "hold" in scenario and number == 2:
                    stream.close()
                    ended = {"sidetrace.end": "cancelled"}
                    break
        else:
            final = seen = place.client.responses.create(model=model, **{"input": "hi", **options})
    except openai.APIStatusError:
        ended, failed = failure(place.attempts.seen[-1]), True
    except openai.APIError as error:
        failed, name = True, error.code if error.body is not None else None
        ended = ended if error.body is not None else {"sidetrace.end": "broken"}
    except Exception as error:
        assert "Protocol" in type(error).__name__, error
        ended, failed = {"sidetrace.end": "broken"}, True
    if final is not None and final.error:
        failed, name = True, final.error.code
    if name:
        ended = {"error.type": name, "sidetrace.end": None}
    resent = place.earlier("chat", model, common, before, "responses")
    reasons = [outcome(final)] if final and final.status != "queued" else None
    told = {**common, **reply(seen and seen.id, seen and seen.model, reasons), **counted(final and final.usage), "openai.response.service_tier": seen and seen.service_tier}
    if final and final.status == "queued":
        del told["gen_ai.response.finish_reasons"]  # nothing has been said yet
    tools = [{"id": item.call_id, "name": item.name, "arguments": json.loads(item.arguments)} for item in final.output if item.type == "function_call"] if final and not failed else None
    present = FIRST if options.get("stream") and seen else ()
    place.tell("chat", model, {**told, "http.response.status_code": 200, **named(place.attempts.seen[-1]), **ended}, "responses", resent, failed=failed, present=present, tools=tools)
    return final


def responses(place):
    first = response(place, "plain", instructions="Be brief.", temperature=0.25)
    response(place, "plain-gzip", previous_response_id=first.id, input=[{"role": "user", "content": "again"}])
    response(place, "tools-deflate", tools=FLAT, conversation=f"conv_{V}")
    response(place, "thinking", reasoning={"effort": "low"}, text={"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}})
    response(place, "length", max_output_tokens=16)
    response(place, "failed")
    response(place, "bad")
    response(place, "limited")
    for scenario in ("", "-gzip", "-tools", "-thinking-tools-deflate", "-length", "-unsafe", "-failed", "-error", "-cut", "-hold"):
        response(place, f"stream{scenario}", stream=True, **({"tools": FLAT} if "tools" in scenario else {}))
    queued = response(place, "queued", background=True)
    fetched = place.client.responses.retrieve(queued.id)
    say("fetch_response", {"gen_ai.operation.name": "fetch_response", "gen_ai.response.id": fetched.id},
        {"gen_ai.provider.name": "openai", "gen_ai.response.status": fetched.status, "gen_ai.response.finish_reasons": [outcome(fetched)],
         "sidetrace.usage.fetched.input_tokens": fetched.usage.input_tokens, "sidetrace.usage.fetched.output_tokens": fetched.usage.output_tokens, **usage()})


async def at_once():
    """One client, one pool, many runs."""
    attempts = Attempts()
    client = openai.AsyncOpenAI(api_key="sk-x", timeout=20, http_client=openai.DefaultAsyncHttpxClient(event_hooks={"response": [attempts.wait]}))

    async def one(number):
        model, gathered = f"gpt-x.{V}.async-{number}{'-gzip' if number % 3 else ''}", Gathered()
        if number % 2:
            gathered.whole(await client.chat.completions.create(model=model, **ASKED))
        else:
            async for chunk in await client.chat.completions.create(model=model, stream=True, stream_options={"include_usage": True}, **ASKED):
                gathered.add(chunk)
        llm("chat", "openai", "api.openai.com", 443, model, {**asked(number % 2 == 0), **gathered.attributes()}, api="chat_completions", tools=[])

    await asyncio.gather(*(one(number) for number in range(12)))


def main():
    here = Place(openai.OpenAI, "api.openai.com", 443, "openai")
    chats(here)
    completions(here)
    embeddings(here)
    responses(here)
    here.client.models.list()
    http("GET", "https://api.openai.com/v1/models")
    # What OpenAI's agents send of themselves is telemetry: it leaves no span.
    here.client.post("/traces/ingest", cast_to=object, body={"data": [{"object": "trace", "model": "gpt-x"}]})
    errors_without_retry(here)
    asyncio.run(at_once())
    azure = Place(openai.AzureOpenAI, "res1.openai.azure.com", 443, "azure.ai.openai", azure_endpoint="https://res1.openai.azure.com", api_version="2026-01-01")
    asking = {"stream": True, "stream_options": {"include_usage": True}}
    completion(azure, "azure")
    completion(azure, "azure-tools", tools=TOOLS)
    completion(azure, "azure-stream", stream=True)
    completion(azure, "azure-stream-tools", tools=TOOLS, **asking)
    completion(azure, "azure-filtered")
    completion(azure, "azure-limited")
    groq = Place(openai.OpenAI, "api.groq.com", 443, "groq", base_url="https://api.groq.com/openai/v1")
    completion(groq, "groq")
    completion(groq, "groq-stream", **asking)
    vllm = Place(openai.OpenAI, "vllm.example", 8000, "openai", base_url="http://vllm.example:8000/v1")
    completion(vllm, "vllm-thinking")
    completion(vllm, "vllm-stream-thinking-continuous", **asking)
    completion(vllm, "vllm-numbered")


main()
