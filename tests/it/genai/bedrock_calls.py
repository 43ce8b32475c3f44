#!/usr/bin/env python3
"""boto3 as its documentation says to use it."""
import json

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError
from told import FIRST, asked, llm, reply, usage

HOST = "bedrock-runtime.us-east-1.amazonaws.com"
REASONS = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "model_context_window_exceeded": "length", "tool_use": "tool_call", "content_filtered": "content_filter",
           "guardrail_intervened": "content_filter", "FINISH": "stop", "stop": "stop"}
ASKED = [{"role": "user", "content": [{"text": "Gr\u00fc\u00dfe"}]}]
TOOLS = {"tools": [{"toolSpec": {"name": "weather", "inputSchema": {"json": {"type": "object"}}}}]}
SEEN = []


def keep(response_dict, parsed_response, exception=None, **_):
    SEEN.append((response_dict, parsed_response))


def tell(model, attributes, before, streamed=False, failed=False, tools=None, operation="chat"):
    tried = SEEN[before:]
    for number, (head, parsed) in enumerate(tried[:-1]):
        error = {"error.type": parsed["Error"]["Code"], "http.response.status_code": head["status_code"], **named(head), "gen_ai.response.finish_reasons": None, **usage()}
        llm(operation, "aws.bedrock", HOST, 443, model, error, resent=number, failed=True)
    told = {"http.response.status_code": tried[-1][0]["status_code"], **attributes, **named(tried[-1][0])}
    llm(operation, "aws.bedrock", HOST, 443, model, told, resent=len(tried) - 1, failed=failed, present=FIRST if streamed and told["http.response.status_code"] == 200 else (), tools=tools)


def named(head):
    return {"sidetrace.response.request_id": head["headers"].get("x-amzn-requestid")}


def counted(said):
    if not said:
        return usage()
    read, written = said.get("cacheReadInputTokens"), said.get("cacheWriteInputTokens")
    return usage(said["inputTokens"] + (read or 0) + (written or 0), said["outputTokens"], read, written)


def converse(client, scenario, streamed=False, **options):
    model, before, stop, said = f"us.anthropic.claude-x.boto.{scenario}-v1:0", len(SEEN), None, None
    inference = options.get("inferenceConfig", {})
    common = asked(streamed, max_tokens=inference.get("maxTokens"), temperature=inference.get("temperature"), top_p=inference.get("topP"), stop_sequences=inference.get("stopSequences"))
    common["aws.bedrock.guardrail.id"] = options.get("guardrailConfig", {}).get("guardrailIdentifier")
    tools, ended, failed = {}, {"sidetrace.end": None}, False
    try:
        if streamed:
            for number, event in enumerate(stream := client.converse_stream(modelId=model, messages=ASKED, **options)["stream"], 1):
                (kind, event), = event.items()
                if "toolUse" in event.get("start", {}):
                    tools[event["contentBlockIndex"]] = {"id": event["start"]["toolUse"]["toolUseId"], "name": event["start"]["toolUse"]["name"], "arguments": ""}
                if "toolUse" in event.get("delta", {}):
                    tools[event["contentBlockIndex"]]["arguments"] += event["delta"]["toolUse"]["input"]
                stop, said = event.get("stopReason", stop), event.get("usage", said)
                if "hold" in scenario and number == 2:
                    stream.close()
                    ended = {"sidetrace.end": "cancelled"}
                    break
            tools = [{**tool, "arguments": json.loads(tool["arguments"])} for tool in tools.values()]
        else:
            answer = client.converse(modelId=model, messages=ASKED, **options)
            stop, said = answer["stopReason"], answer["usage"]
            blocks = [block["toolUse"] for block in answer["output"]["message"]["content"] if "toolUse" in block]
            tools = [{"id": block["toolUseId"], "name": block["name"], "arguments": block["input"]} for block in blocks]
    except EventStreamError as error:
        ended, failed = {"error.type": error.response["Error"]["Code"]}, True
    except ClientError as error:
        ended, failed = {"error.type": error.response["Error"]["Code"]}, True
    except Exception as error:
        assert "cut" in scenario, error
        ended, failed = {"sidetrace.end": "broken"}, True
    told = {**common, **reply(None, None, stop and [REASONS[stop]]), **counted(said), **ended}
    if failed and streamed:
        told.pop("gen_ai.response.finish_reasons")
    tell(model, told, before, streamed, failed, tools if stop else None)


def invoke(client, family, scenario, body, operation="chat"):
    model, before = f"{family}.boto.{scenario}-v1:0", len(SEEN)
    try:
        answer = client.invoke_model(modelId=model, body=json.dumps(body), contentType="application/json")
        told = {**native(json.loads(answer["body"].read())), "sidetrace.end": None}
        tell(model, {**told, "gen_ai.request.stream": None}, before, operation=operation)
    except ClientError as error:
        tell(model, {"error.type": error.response["Error"]["Code"], **usage()}, before, failed=True, operation=operation)


def native(whole):
    """What the answer of a model says in its own words."""
    if "content" in whole:
        said = whole["usage"]
        read, written = said.get("cache_read_input_tokens"), said.get("cache_creation_input_tokens")
        return {**reply(whole["id"], whole["model"], [REASONS[whole["stop_reason"]]]), **usage(said["input_tokens"] + (read or 0) + (written or 0), said["output_tokens"], read, written)}
    if "output" in whole:
        return {**reply(None, None, [REASONS[whole["stopReason"]]]), **counted(whole["usage"])}
    if "generation" in whole:
        return {**reply(None, None, [REASONS[whole["stop_reason"]]]), **usage(whole["prompt_token_count"], whole["generation_token_count"])}
    if "embedding" in whole:
        return usage(whole["inputTextTokenCount"])
    return {**reply(None, None, [REASONS[whole["results"][0]["completionReason"]]]), **usage(whole["inputTextTokenCount"], whole["results"][0]["tokenCount"])}


def invoke_streamed(client, family, scenario, body):
    model, before, told, ended, failed = f"{family}.boto.{scenario}-v1:0", len(SEEN), {}, {"sidetrace.end": None}, False
    metrics, read, written, tools = {}, None, None, {}
    try:
        for number, event in enumerate(stream := client.invoke_model_with_response_stream(modelId=model, body=json.dumps(body))["body"], 1):
            part = json.loads(event["chunk"]["bytes"])
            metrics = part.get("amazon-bedrock-invocationMetrics", metrics)
            if part.get("type") == "message_start":
                told |= {"gen_ai.response.id": part["message"]["id"], "gen_ai.response.model": part["message"]["model"]}
                read, written = (part["message"]["usage"].get(name) for name in ("cache_read_input_tokens", "cache_creation_input_tokens"))
            if part.get("content_block", {}).get("type") == "tool_use":
                tools[part["index"]] = {"id": part["content_block"]["id"], "name": part["content_block"]["name"], "arguments": ""}
            if part.get("delta", {}).get("type") == "input_json_delta":
                tools[part["index"]]["arguments"] += part["delta"]["partial_json"]
            stop = part.get("delta", {}).get("stop_reason") or part.get("messageStop", {}).get("stopReason") or part.get("stop_reason") or part.get("completionReason")
            if stop:
                told["gen_ai.response.finish_reasons"] = [REASONS[stop]]
            if "hold" in scenario and number == 2:
                stream.close()
                ended = {"sidetrace.end": "cancelled"}
                break
    except EventStreamError as error:
        ended, failed = {"error.type": error.response["Error"]["Code"]}, True
    if metrics:
        told |= usage(metrics["inputTokenCount"] + (read or 0) + (written or 0), metrics["outputTokenCount"], read, written)
    tools = [{**tool, "arguments": json.loads(tool["arguments"] or "{}")} for tool in tools.values()]
    tell(model, {**told, **ended, "gen_ai.request.stream": True}, before, True, failed, tools if metrics else None)


def main():
    settings = {"region_name": "us-east-1", "aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secret"}
    client = boto3.client("bedrock-runtime", **settings, config=Config(retries={"max_attempts": 2, "mode": "standard"}, read_timeout=20))
    client.meta.events.register("response-received.bedrock-runtime.*", keep)
    full = {"inferenceConfig": {"maxTokens": 99, "temperature": 0.5, "topP": 0.75, "stopSequences": ["END"]}, "system": [{"text": "Be brief."}],
            "guardrailConfig": {"guardrailIdentifier": "gr-1", "guardrailVersion": "1"}}
    for streamed in (False, True):
        stream = "stream-" if streamed else ""
        converse(client, f"{stream}plain", streamed, **full)
        converse(client, f"{stream}tools-cache", streamed, toolConfig=TOOLS)
        for scenario in ("thinking", "length", "guarded", "unsafe", "bad", "throttled"):
            converse(client, f"{stream}{scenario}", streamed)
    for scenario in ("refused-body", "missing"):
        converse(client, scenario)
    for scenario in ("stream-exception", "stream-hold", "stream-cut"):
        converse(client, scenario, True)
    claude = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 99, "messages": [{"role": "user", "content": "hi"}]}
    invoke(client, "anthropic.claude-x", "invoke", claude)
    invoke(client, "anthropic.claude-x", "invoke-tools-cache", claude)
    invoke(client, "anthropic.claude-x", "invoke-bad", claude)
    invoke(client, "amazon.nova-x", "invoke", {"messages": ASKED, "inferenceConfig": {"maxTokens": 9}})
    invoke(client, "meta.llama-x", "invoke", {"prompt": "hi", "max_gen_len": 9}, "text_completion")
    invoke(client, "amazon.titan-text-x", "invoke", {"inputText": "hi", "textGenerationConfig": {"maxTokenCount": 9}}, "text_completion")
    invoke(client, "amazon.titan-embed-x", "invoke", {"inputText": "hi"}, "embeddings")
    for scenario in ("stream", "stream-tools-cache", "stream-exception", "stream-hold"):
        invoke_streamed(client, "anthropic.claude-x", f"invoke-{scenario}", claude)
    invoke_streamed(client, "amazon.nova-x", "invoke-stream", {"messages": ASKED})


main()
