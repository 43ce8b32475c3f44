#!/usr/bin/env python3
"""Python's clients as their documentation says to use them: `calls.py KIND`. Where they go and whom they trust is the
environment's affair. Says what they showed as one line of JSON for each row: status, headers, the digest of the raw body,
and what was made of it; or which error."""
import asyncio
import hashlib
import io
import json
import sys


def digest(data):
    return f"{len(data)} {hashlib.sha256(data).hexdigest()}"


def head(answer, status="status_code"):
    headers = answer.headers
    pairs = headers.multi_items() if hasattr(headers, "multi_items") else headers.items()
    return f"{getattr(answer, status)}\r\n" + "".join(f"{key}: {value}\r\n" for key, value in pairs if key.lower() != "date")


def chain(error):
    """An error's class and text, and those of what it came from."""
    told = []
    while error is not None:
        told.append(f"{type(error).__name__}: {error}")
        error = error.__cause__ or error.__context__
    return " from ".join(told[:6])


class Row:
    def __init__(self, name):
        self.name, self.saw = name, []

    def step(self, act):
        try:
            self.saw.append(str(act()))
        except Exception as error:
            self.saw.append(chain(error))

    async def wait(self, act):
        try:
            self.saw.append(str(await act()))
        except Exception as error:
            self.saw.append(chain(error))

    def say(self):
        # Addresses of objects and of sockets are of no interest.
        print(json.dumps({"row": self.name, "at": "client", "saw": self.saw}).replace("0x", ""), flush=True)


def raw():
    """Python's own TLS, which tells an end that was said from one that was not."""
    import socket
    import ssl

    row = Row("raw")
    for option, alpn in ((ssl.TLSVersion.TLSv1_3, ["http/1.1"]), (ssl.TLSVersion.TLSv1_2, ["h2", "http/1.1"]), (ssl.TLSVersion.TLSv1_3, [])):
        context = ssl.create_default_context()
        context.maximum_version = option
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
        if alpn:
            context.set_alpn_protocols(alpn)
        for route in ("cut", "notify", "short-cut", "short-notify"):
            with context.wrap_socket(socket.create_connection(("http1.example", 443), 20), server_hostname="http1.example",
                                     suppress_ragged_eofs=False) as over:
                row.saw.append(f"{over.version()} {over.selected_alpn_protocol()}")
                over.sendall(f"GET /{route} HTTP/1.1\r\nHost: http1.example\r\nx-row: raw\r\n\r\n".encode())
                heard = b""
                try:
                    while more := over.recv(65536):
                        heard += more
                    row.saw.append(f"{heard!r}, then close_notify")
                except OSError as error:
                    row.saw.append(f"{heard!r}, then {chain(error)}")
    row.say()


def openai():
    from openai import OpenAI

    row = Row("openai")
    client = OpenAI(api_key="sk-x", default_headers={"x-row": row.name}, timeout=20)
    asked = {"messages": [{"role": "user", "content": "Gr\u00fc\u00dfe"}]}

    def json_answer(model):
        raw = client.chat.completions.with_raw_response.create(model=model, **asked)
        return f"{head(raw)}{digest(raw.content)} {raw.parse().model_dump_json()}"

    def raw_stream():
        with client.chat.completions.with_streaming_response.create(model="zipped", stream=True, **asked) as answer:
            return head(answer) + digest(b"".join(answer.http_response.iter_raw()))

    def events(model, saw):
        for event in client.chat.completions.create(model=model, stream=True, **asked):
            saw.append(event.model_dump_json())

    def until_the_end(model):
        saw = []
        try:
            events(model, saw)
        except Exception as error:
            saw.append(chain(error))
        return saw

    row.step(lambda: json_answer("json"))
    row.step(lambda: json_answer("limited"))
    row.step(lambda: json_answer("refused"))
    row.step(raw_stream)
    for model in ("plain", "zipped", "cut", "cut-notify"):
        row.step(lambda: until_the_end(model))
    row.step(lambda: [event.model_dump_json() for event in client.responses.create(model="x", input="hi", stream=True)])
    row.say()


def anthropic():
    from anthropic import Anthropic

    row = Row("anthropic")
    client = Anthropic(api_key="sk-x", default_headers={"x-row": row.name}, timeout=20)
    asked = {"messages": [{"role": "user", "content": "Gr\u00fc\u00dfe"}], "max_tokens": 99}

    def json_answer(model):
        raw = client.messages.with_raw_response.create(model=model, **asked)
        return f"{head(raw)}{digest(raw.content)} {raw.parse().model_dump_json()}"

    def events(model):
        saw = []
        try:
            with client.messages.stream(model=model, **asked) as stream:
                saw.extend(f"{event.type} {event!r}" for event in stream)
        except Exception as error:
            saw.append(chain(error))
        return saw

    for model in ("json", "limited", "refused"):
        row.step(lambda: json_answer(model))
    for model in ("plain", "zipped", "cut", "cut-notify"):
        row.step(lambda: events(model))
    row.say()


ROUTES = ("plain?a=1", "stream", "large", "status/404", "status/503", "short-cut", "short-notify", "cut", "notify", "plain")


def requests():
    import requests

    row = Row("requests")
    headers = {"x-row": row.name}

    def show(answer):
        return head(answer) + digest(answer.content)

    for route in ROUTES:
        row.step(lambda: show(requests.get(f"https://http1.example/{route}", headers=headers, timeout=20)))
    with requests.Session() as session:
        row.step(lambda: show(session.post("https://http1.example/plain", headers=headers, data=b"x" * 300000, timeout=20)))
        row.step(lambda: show(session.post("https://http1.example/plain", headers=headers, data=iter([b"one", b"two"]), timeout=20)))
        row.step(lambda: show(session.head("https://http1.example/large", headers=headers, timeout=20)))
    row.say()


def urllib3():
    import urllib3

    row = Row("urllib3")
    pool = urllib3.PoolManager(headers={"x-row": row.name}, timeout=20, retries=False)

    def show(*arguments, **options):
        answer = pool.request(*arguments, **options)
        return head(answer, "status") + digest(answer.data)

    for route in ROUTES:
        row.step(lambda: show("GET", f"https://http1.example/{route}"))
    row.step(lambda: show("POST", "https://http1.example/plain", body=b"x" * 300000))
    row.say()


def httpx():
    import httpx

    for row, http2, base, routes in ((Row("httpx h1"), False, "https://http1.example", ROUTES),
                                     (Row("httpx h2"), True, "https://h2.example", ("plain?a=1", "stream", "large", "status/404", "reset", "plain"))):
        def show(answer):
            return f"{answer.http_version} {head(answer)}{digest(answer.content)}"

        with httpx.Client(http2=http2, headers={"x-row": row.name}, timeout=20) as client:
            for route in routes:
                row.step(lambda: show(client.get(f"{base}/{route}")))
            row.step(lambda: show(client.post(f"{base}/plain", content=b"x" * 300000)))
        row.say()


def aiohttp():
    import aiohttp

    async def play():
        row = Row("aiohttp")
        async with aiohttp.ClientSession(headers={"x-row": row.name}, timeout=aiohttp.ClientTimeout(20)) as session:
            async def show(method, route, data=None):
                async with session.request(method, f"https://http1.example/{route}", data=data) as answer:
                    return head(answer, "status") + digest(await answer.read())

            for route in ROUTES:
                await row.wait(lambda: show("GET", route))
            await row.wait(lambda: show("POST", "plain", b"x" * 300000))
            await row.wait(lambda: show("POST", "plain", io.BytesIO(b"y" * 100000)))
        row.say()

    asyncio.run(play())


def boto3():
    import boto3

    row = Row("boto3")
    settings = {"region_name": "us-east-1", "aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secret"}
    model = f"{row.name}.model-v1:0"
    client = boto3.client("bedrock-runtime", **settings)
    asked = {"modelId": model, "messages": [{"role": "user", "content": [{"text": "hi"}]}]}
    row.step(lambda: client.converse(**asked))
    row.step(lambda: list(client.converse_stream(**asked)["stream"]))
    row.step(lambda: list(client.invoke_model_with_response_stream(modelId=model, body=b"{}")["body"]))
    store = boto3.client("s3", **settings)
    for body in (b"x" * 100000, io.BytesIO(b"y" * 100000)):
        row.step(lambda: store.put_object(Bucket="tests", Key=f"in/{row.name}.x/a b+c", Body=body))
    row.say()


def grpcio():
    import grpc

    row = Row("grpcio")
    metadata = (("x-row", row.name),)

    def failing(call):
        try:
            call(b"fail", metadata=metadata, timeout=20)
        except grpc.RpcError as error:
            return f"{error.code()} {error.details()} {error.trailing_metadata()}"

    with grpc.secure_channel("grpc.example:443", grpc.ssl_channel_credentials()) as channel:
        unary = channel.unary_unary("/test.Echo/Unary")
        answer, call = unary.with_call(b"hello", metadata=metadata, timeout=20)
        row.saw.append(f"{answer} {call.code()} {call.trailing_metadata()}")
        row.saw.append(failing(unary))
        row.saw.append(f"{list(channel.unary_stream('/test.Echo/Stream')(b'', metadata=metadata, timeout=20))}")
        row.saw.append(f"{list(channel.stream_stream('/test.Echo/Bidi')(iter([b'one', b'two']), metadata=metadata, timeout=20))}")
        row.saw.append(digest(unary(b"z" * 1000000, metadata=metadata, timeout=20)))
    row.say()


globals()[sys.argv[1]]()
