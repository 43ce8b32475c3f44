#!/usr/bin/env python3
"""Google's library as its documentation says to use it, and the stream without SSE, which it never asks for."""
import json

import requests
from google import genai
from google.genai import errors, types
from told import FIRST, asked, http, llm, reply, usage

HOST = "generativelanguage.googleapis.com"
REASONS = {"STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "content_filter", "MALFORMED_FUNCTION_CALL": "error"}
TOOLS = [types.Tool(function_declarations=[types.FunctionDeclaration(name="weather", parameters_json_schema={"type": "object", "properties": {"city": {"type": "string"}}})])]
FULL = {"temperature": 0.5, "top_p": 0.75, "max_output_tokens": 99, "seed": 7, "stop_sequences": ["END"], "response_mime_type": "application/json", "system_instruction": "Be brief.",
        "presence_penalty": 0.25, "frequency_penalty": -0.5}


def counted(said):
    if said is None:
        return usage()
    given = said.prompt_token_count and said.prompt_token_count + (said.tool_use_prompt_token_count or 0)
    made = said.candidates_token_count if said.thoughts_token_count is None else (said.candidates_token_count or 0) + said.thoughts_token_count
    told = usage(given, made, said.cached_content_token_count, None, said.thoughts_token_count)
    for name, side in (("prompt_tokens_details", "input"), ("candidates_tokens_details", "output")):
        for detail in getattr(said, name) or []:
            told[f"gen_ai.usage.{detail.modality.value.lower()}.{side}_tokens"] = detail.token_count
    return told


def functions(answers):
    parts = [part for answer in answers for candidate in answer.candidates or [] for part in (candidate.content and candidate.content.parts) or []]
    return [{"id": part.function_call.id, "name": part.function_call.name, "arguments": part.function_call.args} for part in parts if part.function_call]


def reasons_of(answers, tools):
    reasons = {}
    for candidate in (candidate for answer in answers for candidate in answer.candidates or []):
        if candidate.finish_reason:
            reason = REASONS[candidate.finish_reason.value]
            reasons[candidate.index or 0] = "tool_call" if reason == "stop" and tools else reason
    blocked = any(answer.prompt_feedback and answer.prompt_feedback.block_reason for answer in answers)
    return [reasons[index] for index in sorted(reasons)] or (["content_filter"] if blocked else None)


def call(client, scenario, streamed=False, **options):
    model, answers, ended, failed = f"gemini-x.gem3.{scenario}", [], {"sidetrace.end": None}, False
    common = asked(streamed, **{name: options.get(name) for name in ("temperature", "top_p", "seed", "stop_sequences", "presence_penalty", "frequency_penalty")}, max_tokens=options.get("max_output_tokens"),
                   top_k=options.get("top_k") and int(options["top_k"]))
    common["gen_ai.output.type"] = "json" if "response_mime_type" in options else None
    common["gen_ai.request.choice.count"] = options.get("candidate_count")
    config = types.GenerateContentConfig(**options)
    try:
        if streamed:
            stream = client.models.generate_content_stream(model=model, contents="Gr\u00fc\u00dfe", config=config)
            for number, answer in enumerate(stream, 1):
                answers.append(answer)
                if "hold" in scenario and number == 1:
                    stream.close()
                    ended = {"sidetrace.end": "cancelled"}
                    break
        else:
            answers = [client.models.generate_content(model=model, contents="Gr\u00fc\u00dfe", config=config)]
    except errors.APIError as error:
        ended, failed = {"error.type": error.status, "http.response.status_code": error.code}, True
    except Exception as error:
        assert "Protocol" in type(error).__name__, error
        ended, failed = {"sidetrace.end": "broken"}, True
    first, last = (answers[0], answers[-1]) if answers else (None, None)
    tools = functions(answers)
    told = {**common, **reply(first and first.response_id, first and first.model_version, reasons_of(answers, tools)), **counted(last and last.usage_metadata), "http.response.status_code": 200, **ended}
    llm("generate_content", "gcp.gemini", HOST, 443, model, told, failed=failed, present=FIRST if streamed and answers else (), tools=tools if ended == {"sidetrace.end": None} else None)


def array(scenario):
    """The stream as a JSON array."""
    model = f"gemini-x.raw.{scenario}"
    with requests.post(f"https://{HOST}/v1beta/models/{model}:streamGenerateContent", json={"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}, headers={"x-goog-api-key": "x"}, timeout=20, stream=True) as answer:
        if "cut" in scenario:
            try:
                answer.content
            except requests.RequestException:
                pass
            return llm("generate_content", "gcp.gemini", HOST, 443, model, {"gen_ai.request.stream": True, "sidetrace.end": "broken"}, failed=True)
        answers = [types.GenerateContentResponse.model_validate(one) for one in json.loads(answer.content)]
    tools, last = functions(answers), answers[-1]
    told = {**reply(last.response_id, last.model_version, reasons_of(answers, tools)), **counted(last.usage_metadata), "gen_ai.request.stream": True}
    return llm("generate_content", "gcp.gemini", HOST, 443, model, told, present=FIRST, tools=tools)


def embed(client, scenario, contents, **options):
    model, failed, told = f"gemini-embedding-001.gem3.{scenario}", False, {}
    try:
        answer = client.models.embed_content(model=model, contents=contents, config=options)
        assert len(answer.embeddings) == (len(contents) if isinstance(contents, list) else 1)
    except errors.APIError as error:
        told, failed = {"error.type": error.status, "http.response.status_code": error.code}, True
    common = {"gen_ai.embeddings.dimension.count": options.get("output_dimensionality"), "gen_ai.response.finish_reasons": None, "gen_ai.usage.output_tokens": None}
    llm("embeddings", "gcp.gemini", HOST, 443, model, {**common, **told}, failed=failed)


def embed_one():
    """One text, which the library never asks for at this host."""
    model = "gemini-embedding-001.raw.single-usage"
    answer = requests.post(f"https://{HOST}/v1beta/models/{model}:embedContent", json={"content": {"parts": [{"text": "hi"}]}, "outputDimensionality": 64}, headers={"x-goog-api-key": "x"}, timeout=20).json()
    llm("embeddings", "gcp.gemini", HOST, 443, model, {"gen_ai.embeddings.dimension.count": 64, **usage(answer["usageMetadata"]["promptTokenCount"])})


def main():
    client = genai.Client(api_key="x", http_options=types.HttpOptions(timeout=20000))
    call(client, "plain-gzip", **FULL)
    call(client, "plain-deflate-cache", top_k=40)
    call(client, "candidates", candidate_count=2)
    for scenario in ("tools", "tools-named-thinking", "thinking", "length", "unsafe", "malformed", "blocked", "modes"):
        call(client, scenario, **({"tools": TOOLS} if "tools" in scenario else {}))
    for scenario in ("limited", "bad", "refused", "broken"):
        call(client, scenario)
    for scenario in ("stream", "stream-gzip-thinking-cache", "stream-tools-deflate", "stream-length", "stream-unsafe", "stream-blocked", "stream-modes", "stream-limited", "stream-cut", "stream-hold", "stream-hold-gzip"):
        call(client, scenario, True, **({"tools": TOOLS} if "tools" in scenario else {}))
    for scenario in ("array", "array-tools-gzip", "array-cut"):
        array(scenario)
    embed(client, "one", "hi")
    embed(client, "many", ["a", "b", "c"], output_dimensionality=128)
    embed(client, "bad", "hi")
    embed_one()
    list(client.models.list())
    http("GET", f"https://{HOST}/v1/models")


main()
