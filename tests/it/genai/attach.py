#!/usr/bin/env python3
"""Puts what the clients' libraries said (standard input) beside the exchanges recorded in FOLDER: `<case>.said`."""
import json
import pathlib
import re
import sys
from urllib.parse import unquote

said, messages = {}, {}
for line in sys.stdin:
    report = json.loads(line)
    model = report["match"].get("gen_ai.request.model")
    if model:
        said[model, report["match"].get("http.request.resend_count") or 0] = report
    elif "jsonrpc.request.id" in report["match"] and report["kind"] == "client":
        attributes = report["attributes"]
        where = report["match"].get("url.full") or f"{report['match']['server.address']}:{report['match']['server.port']}"
        messages[where, attributes.get("mcp.method.name") or attributes["rpc.method"], report["match"]["jsonrpc.request.id"]] = report

for file in pathlib.Path(sys.argv[1]).glob("*/*.request"):
    head, body = file.read_bytes().split(b"\r\n\r\n", 1)
    text = head.decode()
    if body.startswith(b"{") and (method := json.loads(body).get("method")):
        host, target, number = re.search("(?i)host: (.*)", text)[1].strip(), text.split(" ")[1], json.loads(body).get("id")
        number = None if number is None else str(number)
        report = messages.get((f"http://{host}{target}", method, number)) or messages.get((host, method, number))
        if report:
            file.with_suffix(".said").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
        else:
            print(f"nothing said of {file}: {method} {number}", file=sys.stderr)
        continue
    path = unquote(text.split(" ")[1])
    found = re.search(r"/(?:models|model|deployments)/([^/]*?)(?::\w*Content|:\w*Contents)?(?:\?.*)?(?:/|$)", path)
    model = found[1] if found else json.loads(body).get("model") if body.startswith(b"{") else None
    again = re.search(r"(?i)x-stainless-retry-count: (\d+)|amz-sdk-request: attempt=(\d+)", text)
    tried = int(again[1]) if again and again[1] else int(again[2]) - 1 if again else 0
    if (model, tried) in said:
        file.with_suffix(".said").write_text(json.dumps(said[model, tried], indent=1, ensure_ascii=False) + "\n")
    elif model:
        print(f"nothing said of {file}: {model} {tried}", file=sys.stderr)
