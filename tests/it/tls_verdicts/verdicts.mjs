// Node's verdicts: `verdicts.mjs KIND FOLDER ADDRESS`, on every case of FOLDER/cases.json, as verdicts.py says them. KIND is node,
// node-k (the environment says so) or node-certificate.
import { readFileSync } from "node:fs";
import https from "node:https";

const [kind, folder, address] = process.argv.slice(2);
const cases = JSON.parse(readFileSync(`${folder}/cases.json`));
const both = readFileSync(`${folder}/client.pem`);

async function play([name, host, port]) {
  const row = `${kind}: ${name}`;
  const options = { headers: { "x-row": row }, agent: false, timeout: 20000 };
  if (kind === "node-certificate") Object.assign(options, { key: both, cert: both });
  const saw = await new Promise((resolve) => https.get(`https://${host.replace("ADDRESS", address)}:${port}/`, options, (answer) => {
    let body = "";
    answer.on("data", (data) => (body += data));
    answer.on("end", () => resolve(`${answer.statusCode} ${body}`));
    answer.on("error", (error) => resolve(`${error.code} ${error.message}`));
  }).on("error", (error) => resolve(`${error.code} ${error.reason ?? error.message}`.replace(/[0-9A-F]{16}/, ""))).on("timeout", () => resolve("<TIMEOUT>")));
  console.log(JSON.stringify({ row, at: "client", saw: [saw] }));
}

const queue = cases.filter(([, , , , kinds]) => kinds.includes(kind));
const worker = async () => {
  while (queue.length) await play(queue.shift());
};
await Promise.all([worker(), worker(), worker(), worker()]);
process.stdout.write("", () => process.exit(0));
