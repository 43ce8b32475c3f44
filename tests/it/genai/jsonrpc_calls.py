#!/usr/bin/env python3
"""Plain JSON-RPC, for which most have no library: single calls, errors, a notification, a batch."""
import requests
from told import say

BASE = "http://jsonrpc.example:8545"


def post(case, body):
    answer = requests.post(f"{BASE}/rpc/{case}", json=body, headers={"x-client": "raw"}, timeout=20)
    return answer.json() if answer.content else None


def tell(case, asked, answer):
    failed = "error" in answer
    code = str(answer["error"]["code"]) if failed else None
    # The messages of a batch share one exchange.
    where = {"server.address": "jsonrpc.example"} if case == "batch" else {"url.full": f"{BASE}/rpc/{case}"}
    say(asked["method"], {**where, "jsonrpc.request.id": str(answer["id"])},
        {"rpc.system.name": "jsonrpc", "rpc.method": asked["method"], "jsonrpc.protocol.version": answer["jsonrpc"], "rpc.status_code": code, "error.type": code, "mcp.method.name": None,
         "gen_ai.operation.name": None, "server.address": "jsonrpc.example", "server.port": 8545}, failed=failed)


def main():
    for case, number, method in (("number", 1, "eth_blockNumber"), ("text", "abc", "eth_chainId"), ("fail", 7, "no_such")):
        asked = {"jsonrpc": "2.0", "id": number, "method": method, "params": []}
        tell(case, asked, post(case, asked))
    assert post("notify", {"jsonrpc": "2.0", "method": "hello"}) is None
    say("hello", {"url.full": f"{BASE}/rpc/notify"}, {"rpc.system.name": "jsonrpc", "rpc.method": "hello", "jsonrpc.request.id": None, "mcp.method.name": None})
    batch = [{"jsonrpc": "2.0", "id": number, "method": method} for number, method in enumerate(("one", "two", "no_such"), 20)]
    for asked, answer in zip(batch, post("batch", batch)):
        tell("batch", asked, answer)


main()
