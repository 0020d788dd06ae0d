// The page: which images, which prompt, which scorers; sends multipart forms to POST /v1/score, and of several images to
// POST /v1/sets/diversity.
import { showCopies } from "./copying.js";
import { byId } from "./elements.js";
import { showExamples } from "./examples.js";
import { showFilter } from "./filter.js";
import { Images } from "./images.js";
import { said, showAnswer, showProblem, showWaiting } from "./results.js";
import { showScorers, ticked } from "./scorers.js";
import { post } from "./service.js";
import { NEAR, saidOfSet, showNoSet, showSet } from "./sets.js";

const state = { scorers: [], hasAnswer: false, asked: 0 };
const images = new Images(outdate);
const phone = matchMedia("(max-width: 52rem)");
const calm = matchMedia("(prefers-reduced-motion: reduce)");

// An answer belongs to the inputs that it was given for.
function outdate() {
  if (!state.hasAnswer) return;
  byId("answer-section").classList.add("stale");
  byId("stale").textContent = "The inputs have changed since: score again.";
}

// What a screen reader says while the page changes elsewhere: a sentence, not all that is shown.
function tell(sentence) {
  byId("told").textContent = sentence;
}

const sources = (images) => images.map((_, index) => ({ part: `image${index}` }));

function toScore(request) {
  const text = request.text ? { text: request.text } : {};
  return { items: sources(request.images).map((image, index) => ({ id: String(index), image, ...text })), scorers: request.names };
}

function refusal(request) {
  if (!request.images.length) return ["file", { title: "No image", detail: "Choose an image first." }];
  if (request.unasked.length && !request.names.length) return ["text", { title: "No prompt", detail: "The chosen scorers need a prompt: write what the image should show." }];
  if (!request.names.length) return ["scorers", { title: "No scorer", detail: "Choose a scorer first." }];
  return null;
}

function requestOf() {
  const text = byId("text").value.trim();
  const { names, unasked } = ticked(state.scorers, text);
  const readers = names.filter((name) => state.scorers.find((each) => each.id === name).needs_text);
  const by = readers.includes("vqascore") ? "vqascore" : readers[0] ?? names[0];
  return { images: [...images.list], text, names, unasked, by, scorers: state.scorers, hasKey: Boolean(byId("key").value), url: location.origin };
}

async function load() {
  const { scorers, problem } = await showScorers();
  state.scorers = scorers;
  return problem;
}

async function score({ isAsked = true } = {}) {
  const unloaded = state.scorers.length ? null : await load(); // the service may have come since
  if (unloaded) {
    fail(unloaded);
    return;
  }
  const request = requestOf();
  const refused = refusal(request);
  if (refused) {
    fail(refused[1]);
    (byId(refused[0]).querySelector("input") ?? byId(refused[0])).focus();
    return;
  }
  const turn = ++state.asked;
  clear();
  showWaiting(byId("answer"));
  tell("Scoring…");
  byId("send").setAttribute("aria-disabled", "true"); // not `disabled`, which would take the focus away
  const { body, problem } = await post("v1/score", toScore(request), request.images);
  if (turn !== state.asked) return; // a later request is under way
  byId("send").removeAttribute("aria-disabled");
  if (problem) fail(problem);
  else show(body, request);
  if (isAsked && phone.matches) byId("answer-section").scrollIntoView({ behavior: calm.matches ? "auto" : "smooth" });
  if (!problem && request.images.length > 1) await compare(request.images, turn);
}

// What the images are together; their encodings are kept from scoring, so that this takes little.
async function compare(shown, turn) {
  const { body, problem } = await post("v1/sets/diversity", { images: sources(shown), near_duplicate: NEAR }, shown);
  if (turn !== state.asked) return;
  if (problem) {
    showNoSet(byId("set"), problem);
    return;
  }
  showSet(byId("set"), body, shown);
  tell(`${byId("told").textContent} ${saidOfSet(body)}`);
}

function clear() {
  byId("answer-section").classList.remove("stale");
  byId("stale").textContent = "";
  for (const name of ["set", "filter", "copy"]) byId(name).replaceChildren();
}

function fail(problem) {
  state.hasAnswer = true;
  clear();
  showProblem(byId("answer"), problem);
  tell(`${problem.title}. ${problem.detail}`);
}

function show(body, request) {
  state.hasAnswer = true;
  clear();
  showAnswer(byId("answer"), body, request);
  showFilter(byId("filter"), body, request.scorers);
  showCopies(byId("copy"), request, body);
  tell(said(body, request));
}

function tryExample(file, text, options) {
  images.set([file]);
  byId("text").value = text;
  return score(options);
}

// What the service has, and an answer to look at where there is none yet.
async function begin() {
  if (await load()) return;
  const first = await tryFirst;
  if (!images.list.length && !byId("text").value) await first?.();
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

const tryFirst = showExamples(tryExample, fail);
await begin();
