// Node's fetch with an environment of its own: `attempts.mjs URL`, three times. Says what came of each.
for (const attempt of ["1", "2", "3"]) {
  try {
    const answer = await fetch(process.argv[2], { headers: { "x-row": `node ${attempt}` } });
    await answer.text();
    console.log(answer.status);
  } catch (error) {
    console.log(error.cause?.code === "SELF_SIGNED_CERT_IN_CHAIN" || error.cause?.code?.startsWith("UNABLE_TO") ? "refused" : `${error} ${error.cause}`);
  }
}
process.exit(0);
