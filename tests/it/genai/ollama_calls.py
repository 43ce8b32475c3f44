#!/usr/bin/env python3
"""Ollama's library as its documentation says to use it."""
import ollama
from told import FIRST, asked, http, llm, reply, usage

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]
ASKED = {"messages": [{"role": "user", "content": "Gr\u00fc\u00dfe"}]}


def call(client, scenario, operation="chat", **options):
    model, seen, tools, ended, failed = f"llama-x.olla.{scenario}", [], [], {"sidetrace.end": None}, False
    streamed = bool(options.get("stream"))
    chosen = options.get("options", {})
    common = asked(streamed, temperature=chosen.get("temperature"), max_tokens=chosen.get("num_predict"), seed=chosen.get("seed"), top_k=chosen.get("top_k"))
    common["gen_ai.output.type"] = "json" if "format" in options else None
    act, given = (client.chat, ASKED) if operation == "chat" else (client.generate, {"prompt": "Once"})
    try:
        answer = act(model=model, **given, **options)
        for number, part in enumerate(answer if streamed else [answer], 1):
            seen.append(part)
            if operation == "chat":
                tools += [{"id": None, "name": tool.function.name, "arguments": tool.function.arguments} for tool in part.message.tool_calls or []]
            if "hold" in scenario and number == 1:
                answer.close()
                ended = {"sidetrace.end": "cancelled"}
                break
    except ollama.ResponseError as error:
        failed, ended = True, {"http.response.status_code": error.status_code, "error.type": str(error.status_code)} if not seen else {}
    except Exception as error:
        assert "Protocol" in type(error).__name__, error
        ended, failed = {"sidetrace.end": "broken"}, True
    last = seen[-1] if seen else None
    done = last is not None and last.done
    reason = done and ("tool_call" if tools and last.done_reason == "stop" else last.done_reason)
    told = {**common, **reply(None, last and last.model, [reason] if done else None), **usage(last and last.prompt_eval_count, last and last.eval_count), "http.response.status_code": 200, **ended}
    if failed and seen:
        told.pop("gen_ai.response.finish_reasons")
    llm(operation, "ollama", "ollama.example", 11434, model, told, failed=failed, present=FIRST if streamed and seen else (), tools=tools if done else None)


def main():
    client = ollama.Client(host="http://ollama.example:11434", timeout=20)
    call(client, "plain", options={"temperature": 0.5, "num_predict": 99, "seed": 7, "top_k": 40})
    call(client, "tools", tools=TOOLS)
    call(client, "plain-length-gzip", format="json")
    call(client, "plain-cached")
    for scenario in ("stream", "stream-thinking-gzip", "stream-tools", "stream-length", "stream-cached", "stream-error", "stream-cut", "stream-hold", "stream-hold-deflate"):
        call(client, scenario, stream=True, **({"tools": TOOLS} if "tools" in scenario else {}))
    for scenario in ("missing", "broken"):
        call(client, scenario)
    call(client, "generate", "text_completion")
    call(client, "generate-stream", "text_completion", stream=True)
    model = "llama-x.olla.embed"
    answer = client.embed(model=model, input="hi")
    llm("embeddings", "ollama", "ollama.example", 11434, model, {**usage(answer.prompt_eval_count), "gen_ai.response.model": answer.model})
    client.list()
    http("GET", "http://ollama.example:11434/api/tags")


main()
