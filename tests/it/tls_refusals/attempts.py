#!/usr/bin/env python3
"""requests with an authority of its own choice: `attempts.py URL AUTHORITY`, three times. Says what came of each."""
import sys

import requests

for attempt in ("1", "2", "3"):
    try:
        print(requests.get(sys.argv[1], verify=sys.argv[2], headers={"x-row": f"requests {attempt}"}, timeout=20).status_code, flush=True)
    except requests.exceptions.SSLError:
        print("refused", flush=True)
