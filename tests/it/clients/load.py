#!/usr/bin/env python3
"""An ordinary client that calls URL again and again until a call fails, and says how many were answered."""
import sys

import requests

answered = 0
with requests.Session() as session:
    try:
        while True:
            answered += session.get(sys.argv[1], timeout=30).status_code == 200
            if answered % 100 == 0:
                print(f"{answered} calls", flush=True)
    except requests.ConnectionError:
        print(f"{answered} answered", flush=True)
