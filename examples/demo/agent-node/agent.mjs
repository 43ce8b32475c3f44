// The agent, in Node: an ordinary program that makes HTTP and gRPC calls. Nothing in it knows of tracing.
import grpc from "@grpc/grpc-js";

const PLANNER = "http://planner.demo:7000", TOOLS = "http://tools.demo", WEATHER = "weather.demo:50051";
const same = (bytes) => bytes;
const deadline = () => ({ deadline: Date.now() + 10_000 });

const answer = await fetch(`${PLANNER}/plan/oslo`, { method: "POST", body: JSON.stringify({ days: 1 }) });
const plan = await answer.json();
console.log(`  planner    a day in Oslo: ${plan.stops.join(", ")}; ${plan.weather}`);

const [museums, trains] = await Promise.all([fetch(`${TOOLS}/search?q=museums`), fetch(`${TOOLS}/trains/oslo`)]);
console.log(`  search     ${(await museums.json()).found.join(", ")}`);
console.log(`  trains     ${trains.status}: ${(await trains.json()).error}`);

const weather = new grpc.Client(WEATHER, grpc.credentials.createInsecure());
const forecast = await new Promise((resolve, reject) =>
  weather.makeUnaryRequest("/demo.Weather/Forecast", same, same, Buffer.from("oslo"), new grpc.Metadata(), deadline(),
    (error, reply) => (error ? reject(error) : resolve(reply))));
console.log(`  forecast   ${forecast}`);

const watch = weather.makeBidiStreamRequest("/demo.Weather/Watch", same, same, new grpc.Metadata(), deadline());
for (const city of ["oslo", "bergen"]) watch.write(Buffer.from(city));
watch.end();
const updates = [];
for await (const update of watch) updates.push(String(update));
console.log(`  watch      ${updates.join("; ")}`);
weather.close();
