"""Answers of the providers, shaped as their clients parse them."""
import base64
import binascii
import json
import struct


def sse(*events):
    """One piece for each event, as it stands on the wire."""
    return [((f"event: {name}\n" if name else "") + f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n").encode()
            for name, data in events]


def eventstream(name, data):
    """A message of Amazon's event stream."""
    headers = ((":event-type", name), (":content-type", "application/json"), (":message-type", "event"))
    head = b"".join(bytes([len(key)]) + key.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode() for key, value in headers)
    payload = json.dumps(data, separators=(",", ":")).encode()
    prelude = struct.pack("!II", 16 + len(head) + len(payload), len(head))
    prelude += struct.pack("!I", binascii.crc32(prelude))
    message = prelude + head + payload
    return message + struct.pack("!I", binascii.crc32(message))


def chunk(delta, finish=None):
    return "", {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-x-1", "usage": None,
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def tool(**function):
    return {"tool_calls": [{"index": 0, **function}]}


CHAT = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-x-1",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Gr\u00fc\u00dfe " * 200}}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29}}
CHAT_STREAM = sse(
    chunk({"role": "assistant", "content": None, **tool(id="call_A", type="function", function={"name": "w", "arguments": ""})}),
    chunk(tool(function={"arguments": "{\"c\":"})),
    chunk(tool(function={"arguments": "\"P\"}"})),
    chunk({}, "tool_calls"),
    ("", {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-x-1", "choices": [],
          "usage": {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29}}),
    ("", "[DONE]"))

RESPONSE = {"id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-x-1", "status": "in_progress", "output": [],
            "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
CALL = {"id": "fc_1", "type": "function_call", "call_id": "call_B", "name": "w", "arguments": "{\"c\":\"P\"}", "status": "completed"}
USAGE = {"input_tokens": 30, "input_tokens_details": {"cached_tokens": 10, "cache_write_tokens": 0}, "output_tokens": 7,
         "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 37}
RESPONSE_STREAM = sse(*((event["type"], {**event, "sequence_number": number}) for number, event in enumerate((
    {"type": "response.created", "response": RESPONSE},
    {"type": "response.output_item.added", "output_index": 0, "item": {**CALL, "arguments": "", "status": "in_progress"}},
    {"type": "response.function_call_arguments.delta", "item_id": "fc_1", "output_index": 0, "delta": "{\"c\":\"P\"}"},
    {"type": "response.output_item.done", "output_index": 0, "item": CALL},
    {"type": "response.completed", "response": {**RESPONSE, "status": "completed", "output": [CALL], "usage": USAGE}}))))

MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": [{"type": "text", "text": "Hi " * 200}],
           "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 5, "output_tokens": 7}}
MESSAGE_STREAM = sse(*((event["type"], event) for event in (
    {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "toolu_1", "name": "w", "input": {}}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{\"c\":"}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "\"P\"}"}},
    {"type": "content_block_stop", "index": 1},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None}, "usage": {"output_tokens": 42}},
    {"type": "message_stop"})))

CONVERSE = {"output": {"message": {"role": "assistant", "content": [{"text": "Hi"}]}}, "stopReason": "end_turn",
            "usage": {"inputTokens": 5, "outputTokens": 7, "totalTokens": 12}, "metrics": {"latencyMs": 12}}
CONVERSE_STREAM = [eventstream(name, data) for name, data in (
    ("messageStart", {"role": "assistant"}),
    ("contentBlockStart", {"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": "tu_1", "name": "w"}}}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"toolUse": {"input": "{\"c\":\"P\"}"}}}),
    ("contentBlockStop", {"contentBlockIndex": 0}),
    ("messageStop", {"stopReason": "tool_use"}),
    ("metadata", {"usage": {"inputTokens": 5, "outputTokens": 7, "totalTokens": 12}, "metrics": {"latencyMs": 12}}))]
INVOKE_STREAM = [eventstream("chunk", {"bytes": base64.b64encode(b'{"type":"message_stop"}').decode()})]
