#!/usr/bin/env python3
"""An ordinary client of a server that closes a connection whenever it likes: `race.py URL COUNT`."""
import sys

import requests

answered, failed = 0, {}
with requests.Session() as session:
    for _ in range(int(sys.argv[2])):
        try:
            answered += session.get(sys.argv[1], timeout=5).status_code == 200
        except requests.RequestException as error:
            failed[type(error).__name__] = failed.get(type(error).__name__, 0) + 1
print(f"{answered} answered, failed: {failed}")
