#!/usr/bin/env python3
"""Python's and curl's verdicts: `verdicts.py KIND FOLDER ADDRESS`, on every case of FOLDER/cases.json. KIND is python, python-old,
python-certificate, or curl and the like. Says one line of JSON for each."""
import http.client
import json
import pathlib
import re
import ssl
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

KIND, FOLDER, ADDRESS = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
warnings.simplefilter("ignore")
OPTIONS = {"curl": [], "curl-k": ["-k"], "curl-old": ["-k", "--tlsv1.0", "--ciphers", "DEFAULT@SECLEVEL=0"],
           "curl-certificate": ["--cert", str(FOLDER / "client.pem")]}


def with_python(row, host, port):
    context = ssl.create_default_context()
    if KIND == "python-old":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    if KIND == "python-certificate":
        context.load_cert_chain(FOLDER / "client.pem")
    try:
        connection = http.client.HTTPSConnection(host, port, context=context, timeout=20)
        connection.request("GET", "/", headers={"x-row": row})
        answer = connection.getresponse()
        return f"{answer.status} {answer.read()}"
    except ssl.SSLError as error:
        return f"{type(error).__name__} {error.reason} {getattr(error, 'verify_code', '')} {getattr(error, 'verify_message', '')}"
    except Exception as error:
        return f"{type(error).__name__} {error}"


def with_curl(row, host, port):
    words = ["curl", "-sS", "-i", "-m", "20", *OPTIONS[KIND], "-H", f"x-row: {row}", "-w", "\n%{http_version} %{exitcode}", f"https://{host}:{port}/"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return f"{done.returncode} {done.stdout} {done.stderr}"


def play(case):
    name, host, port, _, kinds = case
    if KIND not in kinds:
        return
    row = f"{KIND}: {name}"
    act = with_python if KIND.startswith("python") else with_curl
    saw = act(row, host.replace("ADDRESS", ADDRESS), port)
    print(json.dumps({"row": row, "at": "client", "saw": [re.sub(r"_ssl\.c:\d+", "", saw)]}), flush=True)


with ThreadPoolExecutor(4) as pool:
    list(pool.map(play, json.loads((FOLDER / "cases.json").read_text())))
