// A program that uses the packed client, compiled with every check that TypeScript has; prints what came of each call.
import { createServer } from "node:http";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer as createTlsServer } from "node:https";
import { Plumbline, type Item, type Outcome, type ScoreReply, type Streamed } from "plumbline-client";

const [, , url = "", keyUrl = "", key = "", circlePath = "", starPath = "", keyPath = "", certPath = ""] = process.argv;
const circle = await readFile(circlePath);
const star = new Blob([await readFile(starPath)]);
const plumbline = new Plumbline(url);

function value<T>(outcome: Outcome<T>): T {
  if (!outcome.ok) throw new Error(outcome.problem.detail);
  return outcome.value;
}

function valuesOf(reply: ScoreReply): (Record<string, number> | string)[] {
  return reply.results.map((result) => {
    if (result.status === "error") return result.error.code;
    return Object.fromEntries(Object.entries(result.scores).map(([name, score]) => ["value" in score ? [name, score.value] : [name, NaN]].flat() as [string, number]));
  });
}

const items: Item[] = [
  { image: circle, text: "a red circle" },
  { image: circle, text: "a green star" },
  { image: star, text: "a green star" },
  { image: new Uint8Array([1, 2, 3]), text: "nothing" },
  { image: { pixels: new Uint8Array(64 * 64 * 3).fill(255), height: 64, width: 64 }, text: "white" },
];
const scored = value(await plumbline.score(items, { timeoutMs: 120_000 }));
const ranked = value(await plumbline.rank("a green star", [circle, star], { scorer: "vqascore", topK: 1 }));
const selected = value(await plumbline.select("a green star", [circle, star], { scorer: "vqascore", correlation: 0.5 }));
const texts = value(await plumbline.rank(star, ["a red circle", "a green star"]));
const filtered = value(await plumbline.filter(items.slice(0, 2), [{ scorer: "vqascore", min: 0.5 }], { explain: true }));
const embedded = value(await plumbline.embed({ texts: ["a red circle"] }));
const scorers = value(await plumbline.scorers());
const models = value(await plumbline.models());

const video: Item = { frames: [circle, star], text: "a red circle", pool: "min" };
const filmed = value(await plumbline.score([video], { scorers: ["vqascore"], guards: { explain: true }, timeoutMs: 120_000 })).results[0];
const film = filmed?.status === "ok" ? filmed.scores["vqascore"] : undefined;
const flags = filmed?.status === "ok" ? filmed.guards : undefined;

const labels = Array.from({ length: 19 }, () => true);
const cut = value(await plumbline.calibrate("ts.launch", "vqascore", { scores: labels.map(() => 0.25), labels }, { alpha: 0.05, direction: "keep_good" }));
const kept = value(await plumbline.calibrations());
const judged = value(await plumbline.filter(items.slice(0, 2), [{ scorer: "vqascore", calibration: "ts.launch" }]));
const learnt = value(await plumbline.classify("shapes", { circle: [circle, star], star: [star, circle, star] }, { circle: "a circle", star: "a star" }));
const listed = value(await plumbline.scorers());
const classified = value(await plumbline.rank("any", [circle, star], { scorer: "classifier:shapes" }));
const classifiers = value(await plumbline.classifiers());
value(await plumbline.deleteClassifier("shapes"));
value(await plumbline.deleteCalibration("ts.launch"));
const reward = { method: "sum" as const, terms: [{ scorer: "vqascore", weight: 2 }] };
const combined = value(await plumbline.calibrate("ts.reward", null, { scores: labels.map(() => 0.5), labels }, { alpha: 0.05, direction: "keep_good", combine: { reward } }));
const byReward = value(await plumbline.filter(items.slice(0, 2), [{ scorer: "reward", calibration: "ts.reward" }], { combine: combined.combine ?? {} }));
value(await plumbline.deleteCalibration("ts.reward"));
const forgotten = await plumbline.deleteCalibration("ts.launch");
const referred = value(await plumbline.refer("qualiclip", Array.from({ length: 100 }, (_, index) => index / 100)));
const references = value(await plumbline.references());
const drift = value(await plumbline.drift());
value(await plumbline.deleteReference("qualiclip"));
const diverse = value(await plumbline.diversity({ images: [circle, star, circle] }, { orders: [1, Infinity], nearDuplicate: null }));
const vectors = value(await plumbline.embed({ images: [circle, star] })).vectors.filter((each) => Array.isArray(each));
const apart = value(await plumbline.distance({ embeddings: vectors, encoder: "mine" }, { embeddings: [...vectors].reverse(), encoder: "mine" }, { rbfSigma: 2 }));
const reference = { images: [circle, star] };
const stored = value(await plumbline.referSet("ts.launch", reference, { scorer: "clipscore" }));
const fromKept = value(await plumbline.distance({ images: [star, circle, star] }, { reference: stored.name }));
const fromSent = value(await plumbline.distance({ images: [star, circle, star] }, reference, { scorer: "clipscore" }));
const storedSets = value(await plumbline.referenceSets());
value(await plumbline.deleteReferenceSet("ts.launch"));
const unkept = await plumbline.distance(reference, { reference: "ts.launch" });
const audit = await plumbline.audit(["day", "night"], { labels: ["day", null, "night"] });

const rewarded = value(await plumbline.rewards([circle, new Uint8Array([1]), star], ["a red circle", "none", "a green star"], { scorer: "vqascore", timeoutMs: 120_000 }));
const forAll = value(await plumbline.rewards([circle, star], ["a red circle", "a green star"], { scorer: "vqascore" }));
const byCombination = value(await plumbline.rewards([circle], "a red circle", { combine: { reward } }));
const none = value(await plumbline.rewards([], "a red circle", { scorer: "vqascore" }));
const refusedRewards = await Promise.all(
  [plumbline.rewards([circle, star], ["one"], { scorer: "vqascore" }), plumbline.rewards([circle], null, {})].map((each) => each.then(() => "", (error: TypeError) => error.message)),
);

async function* many(): AsyncGenerator<Item> {
  for (let index = 0; index < 7; index++) yield { id: `n${index}`, image: circle, text: `a red circle ${index}` };
}
const streamed: Streamed[] = [];
for await (const each of plumbline.scoreStream(many(), { batch: 2, underWay: 2, scorers: ["clipscore"], timeoutMs: 120_000 })) streamed.push(each);

const unknown = await plumbline.score([{ text: "a" }], { scorers: ["vibes"] });
const noKey = await new Plumbline(keyUrl).scorers();
const withKey = await new Plumbline(keyUrl, { apiKey: key }).scorers();
const gone = await new Plumbline("127.0.0.1:9", { retries: { maxAttempts: 2, firstWaitMs: 1 } }).scorers();
const nobody = await new Plumbline("127.0.0.1:9").ready({ requestId: "nobody" });
const elsewhere = await new Plumbline(`${url}/docs`).ready();
const named = await plumbline.scorers({ requestId: "ts.named" });
const namedNowhere = await new Plumbline("127.0.0.1:9", { retries: { maxAttempts: 1 } }).scorers({ requestId: "ts.nowhere" });

const sentClaims: unknown[] = [];
const patient = new Plumbline(url, {
  priority: "batch",
  deterministic: true,
  fetch: (input, init) => {
    const { priority, deterministic } = JSON.parse(String((init?.body as FormData).get("request")));
    sentClaims.push([priority, deterministic]);
    return fetch(input, init);
  },
});
value(await patient.embed({ texts: ["a red circle"] }));
value(await patient.embed({ texts: ["a red circle"] }, { priority: "interactive", deterministic: false }));

function messageOf(make: () => Plumbline): string {
  try {
    make();
    return "";
  } catch (error) {
    return error instanceof TypeError ? error.message : "no TypeError";
  }
}
const refusals = [
  messageOf(() => new Plumbline(url, { apiKey: "a\nsecret" })),
  messageOf(() => new Plumbline(url, { headers: { "x-tenant": "секрет" } })),
  messageOf(() => new Plumbline(url, { headers: { "x tenant": "a" } })),
];
const stop = new AbortController();
stop.abort();
const cancelled = await plumbline.scorers({ signal: stop.signal });

// Answers 503 twice before it hands on to the service, as a gateway does that starts.
let refused = 0;
const tenants: unknown[] = [];
const proxy = createServer((request, response) => {
  tenants.push(request.headers["x-tenant"]);
  if (refused < 2) {
    refused++;
    response.writeHead(503, { "retry-after": "0", "content-type": "application/problem+json" });
    response.end(JSON.stringify({ title: "Not ready", detail: "Not yet.", code: "not_ready", status: 503 }));
    return;
  }
  void fetch(`${url}/v1/scorers`).then(async (reply) => response.writeHead(reply.status).end(await reply.text()));
}).listen(0, "127.0.0.1");
await once(proxy, "listening");
const address = proxy.address();
const port = typeof address === "object" && address ? address.port : 0;
const retried = await new Plumbline(`http://127.0.0.1:${port}`, { retries: { firstWaitMs: 1 } }).scorers();
const tried = tenants.length;
refused = 0;
const notYet = await new Plumbline(`http://127.0.0.1:${port}`, { headers: { "X-Tenant": "a" } }).ready();
const triedOnce = await (refused = 0, new Plumbline(`http://127.0.0.1:${port}`, { retries: { maxAttempts: 1 } })).scorers();
proxy.close();

// A certificate that nobody signed, and a port that speaks no TLS.
let connections = 0;
const unsigned = createTlsServer({ key: await readFile(keyPath), cert: await readFile(certPath) }, (_, response) => response.end("{}")).listen(0, "127.0.0.1");
unsigned.on("connection", () => connections++);
await once(unsigned, "listening");
const plain = createServer((_, response) => response.end("{}")).listen(0, "127.0.0.1");
plain.on("connection", () => connections++);
await once(plain, "listening");
const portOf = (server: { address(): ReturnType<typeof proxy.address> }) => { const at = server.address(); return typeof at === "object" && at ? at.port : 0; };
const untrusted = await new Plumbline(`https://127.0.0.1:${portOf(unsigned)}`).scorers();
const untrustedReady = await new Plumbline(`https://127.0.0.1:${portOf(unsigned)}`).ready();
const noTls = await new Plumbline(`https://127.0.0.1:${portOf(plain)}`).scorers();
unsigned.close();
plain.close();

const code = (outcome: Outcome<unknown>) => (outcome.ok ? "ok" : outcome.problem.code);
console.log(JSON.stringify({
  scored: valuesOf(scored),
  ranked: ranked.ranking.map((place) => place.index),
  selected: selected.index,
  texts: texts.ranking.map((place) => place.index),
  filtered: filtered.results.map((result) => (result.status === "ok" ? result.verdict : "error")),
  dim: embedded.dim,
  film: film && "value" in film ? [film.value, film.frames?.min, film.frames?.values.length] : film,
  flags: Object.keys(flags ?? {}),
  combined: [combined.scorer, combined.threshold, byReward.results.map((each) => (each.status === "ok" ? each.verdict : "error"))],
  cut: [cut.threshold, cut.k, kept.map((each) => each.name), judged.results.map((each) => (each.status === "ok" ? each.verdict : "error"))],
  learnt: [learnt.num_images, listed.map((each) => each.id), classified.ranking.length, classifiers.map((each) => each.name)],
  drift: [referred.n, references.map((each) => each.scorer), drift.scorers["qualiclip"]?.severity],
  sets: [diverse.n, Object.keys(diverse.vendi), diverse.duplicates, apart.n_a, apart.rbf_sigma, Math.abs(apart.frechet) < 1e-6],
  kept: [stored.n, stored.dim === embedded.dim, storedSets.map((each) => each.name), fromKept.n_b, fromKept.frechet === fromSent.frechet],
  refused: [forgotten, unkept, audit].map((each) => (each.ok ? "ok" : each.problem.code)),
  scorers: scorers.map((each) => [each.id, each.demo ?? false]),
  models: models.length,
  streamed: streamed.map(({ item, outcome }) => [item.id, outcome.ok && outcome.result.status]),
  codes: [unknown, noKey, withKey, gone, cancelled, retried, triedOnce].map(code),
  methods: Object.getOwnPropertyNames(Plumbline.prototype),
  ready: [await plumbline.ready(), nobody, notYet, elsewhere].map((each) => (each.ok ? each.value : each.problem.code)),
  readyTried: tenants.slice(tried),
  names: [named, namedNowhere, nobody].map((each) => each.requestId),
  claims: sentClaims,
  rewards: [[...rewarded.values], rewarded.errors.map((each) => each?.code ?? null), [...forAll.values, ...none.values], byCombination.values[0], refusedRewards],
  tls: [...[untrusted, untrustedReady, noTls].map((each) => (each.ok ? each.value : each.problem.code)), connections],
  refusals,
  gone: gone.ok ? "" : gone.problem.detail,
}));
