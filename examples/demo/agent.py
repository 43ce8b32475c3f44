"""The agent, in Python: an ordinary program that makes HTTP and gRPC calls. Nothing in it knows of tracing."""
import grpc
import requests

PLANNER, TOOLS, WEATHER = "http://planner.demo:7000", "http://tools.demo", "weather.demo:50051"


def main():
    plan = requests.post(f"{PLANNER}/plan/lisbon", json={"days": 1}, timeout=10).json()
    print(f"  planner    a day in Lisbon: {', '.join(plan['stops'])}; {plan['weather']}")

    with requests.get(f"{TOOLS}/stream/lisbon", stream=True, timeout=10) as answer:
        print(f"  stream     {' '.join(line.decode() for line in answer.iter_lines())}")

    tides = requests.get(f"{TOOLS}/tides/lisbon", timeout=10)
    print(f"  tides      {tides.status_code}: {tides.json()['error']}")

    with grpc.insecure_channel(WEATHER) as channel:
        forecast = channel.unary_unary("/demo.Weather/Forecast")
        print(f"  forecast   {forecast(b'lisbon', timeout=10).decode()}")
        try:
            forecast(b"atlantis", timeout=10)
        except grpc.RpcError as error:
            print(f"  forecast   {error.code().name}: {error.details()}")
        watch = channel.stream_stream("/demo.Weather/Watch")
        updates = watch(iter([b"lisbon", b"porto", b"faro"]), timeout=10)
        print(f"  watch      {'; '.join(update.decode() for update in updates)}")


main()
