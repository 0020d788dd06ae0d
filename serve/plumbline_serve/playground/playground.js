// The page: which images, which prompt, which scorers; sends multipart forms to POST /v1/score, and of several images to
// POST /v1/sets/diversity.
import { showCopies } from "./copying.js";
import { byId, element } from "./elements.js";
import { showExamples } from "./examples.js";
import { showFilter } from "./filter.js";
import { Images } from "./images.js";
import { showAnswer, showProblem, showWaiting } from "./results.js";
import { NEAR, showNoSet, showSet } from "./sets.js";

const state = { scorers: [], hasAnswer: false, asked: 0 };
const images = new Images(outdate);
const phone = matchMedia("(max-width: 52rem)");
const calm = matchMedia("(prefers-reduced-motion: reduce)");

function headers() {
  const key = byId("key").value.trim();
  return key ? { authorization: `Bearer ${key}` } : {};
}

// An answer belongs to the inputs that it was given for.
function outdate() {
  if (!state.hasAnswer) return;
  byId("answer-section").classList.add("stale");
  byId("stale").textContent = "The inputs have changed since: score again.";
}

function askForKey(problem) {
  byId("access").open = true;
  byId("key").focus();
  return { ...problem, title: "A key is needed", detail: "This service asks for an API key: enter it under “API key” and score again." };
}

function problemOf(response, body) {
  if (response.status === 401 || response.status === 403) return askForKey(body);
  const wait = response.headers.get("retry-after");
  if (wait) return { ...body, detail: `${body.detail} Try again in ${wait} s.` };
  return body;
}

// The document of a reply, or a problem, whatever happens on the way.
async function call(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    return { problem: { title: "No answer", detail: `The service at ${location.host} does not answer. Is it still running?` } };
  }
  try {
    const body = await response.json();
    return response.ok ? { body } : { problem: problemOf(response, body) };
  } catch {
    return { problem: { title: "No answer", detail: `Something other than Plumbline answered with status ${response.status}.`, status: response.status } };
  }
}

function scorerLine(scorer) {
  const box = element("input", { type: "checkbox", name: "scorer", value: scorer.id });
  box.checked = !scorer.id.startsWith("classifier:"); // those of others are not asked unless they are chosen
  return element("label", {}, box, element("span", {}, scorer.id, " ", element("small", { text: scorer.summary })));
}

async function loadScorers() {
  const { body, problem } = await call("v1/scorers", { headers: headers() });
  if (problem) {
    byId("scorers").replaceChildren(element("p", { text: problem.detail }));
    return false;
  }
  state.scorers = body.scorers;
  byId("scorers").replaceChildren(...state.scorers.map(scorerLine));
  byId("demo").hidden = !state.scorers.some((scorer) => scorer.demo);
  return true;
}

// Scorers that need what is not here would only say so.
function chosen(text) {
  const given = text ? ["image", "text"] : ["image"];
  const names = [...document.querySelectorAll("input[name=scorer]:checked")].map((box) => box.value);
  return names.filter((name) => state.scorers.find((each) => each.id === name).needs.every((need) => given.includes(need)));
}

const sources = (images) => images.map((_, index) => ({ part: `image${index}` }));

function form(document, images) {
  const data = new FormData();
  data.append("request", new Blob([JSON.stringify(document)], { type: "application/json" }));
  images.forEach((image, index) => data.append(`image${index}`, image.file, "image"));
  return data;
}

function post(path, document, images) {
  return call(path, { method: "POST", body: form(document, images), headers: headers() });
}

function toScore(request) {
  const text = request.text ? { text: request.text } : {};
  return { items: sources(request.images).map((image, index) => ({ id: String(index), image, ...text })), scorers: request.names };
}

function refusal(request) {
  if (!request.images.length) return ["file", { title: "No image", detail: "Choose an image first." }];
  if (!request.names.length) return ["text", { title: "No scorer", detail: "Choose a scorer that needs no more than what is here: most need a prompt." }];
  return null;
}

async function score({ isAsked = true } = {}) {
  const text = byId("text").value.trim();
  const names = chosen(text);
  const readers = names.filter((name) => state.scorers.find((each) => each.id === name).needs_text);
  const by = readers.includes("vqascore") ? "vqascore" : readers[0] ?? names[0];
  const request = { images: [...images.list], text, names, by, scorers: state.scorers, hasKey: Boolean(byId("key").value), url: location.origin };
  const place = byId("answer");
  const refused = refusal(request);
  if (refused) {
    showProblem(place, refused[1]);
    byId(refused[0]).focus();
    return;
  }
  const turn = ++state.asked;
  byId("send").disabled = true;
  showWaiting(place);
  const { body, problem } = await post("v1/score", toScore(request), request.images);
  if (turn !== state.asked) return; // a later request is under way
  byId("send").disabled = false;
  show(place, request, { body, problem });
  if (isAsked && phone.matches) byId("answer-section").scrollIntoView({ behavior: calm.matches ? "auto" : "smooth" });
  if (!problem && request.images.length > 1) await compare(request.images, turn);
}

// What the images are together; their encodings are kept from scoring, so that this takes little.
async function compare(shown, turn) {
  const { body, problem } = await post("v1/sets/diversity", { images: sources(shown), near_duplicate: NEAR }, shown);
  if (turn !== state.asked) return;
  if (problem) showNoSet(byId("set"), problem);
  else showSet(byId("set"), body, shown);
}

function show(place, request, { body, problem }) {
  state.hasAnswer = true;
  byId("answer-section").classList.remove("stale");
  byId("stale").textContent = "";
  for (const name of ["set", "filter", "copy"]) byId(name).replaceChildren();
  if (problem) {
    showProblem(place, problem);
    return;
  }
  showAnswer(place, body, request);
  showFilter(byId("filter"), body, request.scorers);
  showCopies(byId("copy"), request, body);
}

function tryExample(file, text, options) {
  images.set([file]);
  byId("text").value = text;
  return score(options);
}

// What the service has, and an answer to look at where there is none yet.
async function begin() {
  if (!(await loadScorers())) return;
  const first = await tryFirst;
  if (!images.list.length && !byId("text").value) await first();
}

byId("request").addEventListener("submit", (event) => {
  event.preventDefault();
  score();
});
byId("request").addEventListener("input", (event) => {
  if (event.target.id !== "key") outdate();
});
byId("request").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("request").requestSubmit();
});
byId("key").addEventListener("change", begin);
document.querySelector("a[href='#real-weights']").addEventListener("click", () => { byId("real-weights").open = true; });

const tryFirst = showExamples(tryExample);
await begin();
