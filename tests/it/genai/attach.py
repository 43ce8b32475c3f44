#!/usr/bin/env python3
"""Puts what the clients' libraries said (standard input) beside the exchanges recorded in FOLDER: `<case>.said`."""
import json
import pathlib
import re
import sys
from urllib.parse import unquote

said = {}
for line in sys.stdin:
    report = json.loads(line)
    model = report["match"].get("gen_ai.request.model")
    if model:
        said[model, report["match"].get("http.request.resend_count") or 0] = report

for file in pathlib.Path(sys.argv[1]).glob("*/*.request"):
    head, body = file.read_bytes().split(b"\r\n\r\n", 1)
    text = head.decode()
    path = unquote(text.split(" ")[1])
    found = re.search(r"/(?:models|model|deployments)/([^/]*?)(?::\w*Content|:\w*Contents)?(?:\?.*)?(?:/|$)", path)
    model = found[1] if found else json.loads(body).get("model") if body.startswith(b"{") else None
    again = re.search(r"(?i)x-stainless-retry-count: (\d+)|amz-sdk-request: attempt=(\d+)", text)
    tried = int(again[1]) if again and again[1] else int(again[2]) - 1 if again else 0
    if (model, tried) in said:
        file.with_suffix(".said").write_text(json.dumps(said[model, tried], indent=1, ensure_ascii=False) + "\n")
    elif model:
        print(f"nothing said of {file}: {model} {tried}", file=sys.stderr)
