"""The agent, in Python: an ordinary program that asks a model, calls tools, and makes HTTP and gRPC calls. Nothing in it knows of
tracing."""
import json

import grpc
import requests
from openai import OpenAI

MODEL, PLANNER, TOOLS, WEATHER = "http://llm.demo:8000/v1", "http://planner.demo:7000", "http://tools.demo", "weather.demo:50051"


def main():
    print(f"  model      {ask('What is the weather in Lisbon?')}")

    plan = requests.post(f"{PLANNER}/plan/lisbon", json={"days": 1}, timeout=10).json()
    print(f"  planner    a day in Lisbon: {', '.join(plan['stops'])}; {plan['weather']}")

    with requests.get(f"{TOOLS}/stream/lisbon", stream=True, timeout=10) as answer:
        print(f"  stream     {' '.join(line.decode() for line in answer.iter_lines())}")

    tides = requests.get(f"{TOOLS}/tides/lisbon", timeout=10)
    print(f"  tides      {tides.status_code}: {tides.json()['error']}")

    with grpc.insecure_channel(WEATHER) as channel:
        forecast = channel.unary_unary("/demo.Weather/Forecast")
        print(f"  forecast   {forecast(b'lisbon', timeout=10).decode()}")
        try:
            forecast(b"atlantis", timeout=10)
        except grpc.RpcError as error:
            print(f"  forecast   {error.code().name}: {error.details()}")
        watch = channel.stream_stream("/demo.Weather/Watch")
        updates = watch(iter([b"lisbon", b"porto", b"faro"]), timeout=10)
        print(f"  watch      {'; '.join(update.decode() for update in updates)}")


def ask(question):
    """The loop of every agent: the model asks for a tool, the tool's answer goes back, until the model is done."""
    model, messages = OpenAI(base_url=MODEL, api_key="none"), [{"role": "user", "content": question}]
    while True:
        stream = model.chat.completions.create(
            model="demo-1", messages=messages, tools=[WEATHER_TOOL], stream=True, stream_options={"include_usage": True})
        text, calls = "", {}
        for choice in (choice for chunk in stream for choice in chunk.choices):
            text += choice.delta.content or ""
            for piece in choice.delta.tool_calls or []:
                call = calls.setdefault(piece.index, {"id": piece.id, "name": piece.function.name, "arguments": ""})
                call["arguments"] += piece.function.arguments or ""
        if not calls:
            return text
        asked = [{"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
                 for call in calls.values()]
        messages.append({"role": "assistant", "tool_calls": asked})
        messages += [{"role": "tool", "tool_call_id": call["id"], "content": tool(call)} for call in calls.values()]


def tool(call):
    """A tool of an MCP server."""
    params = {"name": call["name"], "arguments": json.loads(call["arguments"])}
    answer = requests.post(f"{TOOLS}/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}, timeout=10)
    return answer.json()["result"]["content"][0]["text"]


WEATHER_TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}

main()
