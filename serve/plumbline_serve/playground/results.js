// The answer: a card for each image, best first, with a verdict, its scores and what lies behind them.
import { element, pairs, round } from "./elements.js";
import { picture } from "./images.js";
import { MARKS, level, scale, verdict } from "./verdicts.js";
import { wordLine } from "./words.js";

function problemCard(problem, heading) {
  const faults = (problem.errors ?? []).map((fault) => [fault.pointer || "request", fault.detail]);
  const facts = [["status", problem.status], ["code", problem.code], ["request", problem.request_id], ...faults];
  return element("article", { className: "problem" },
    element("h3", { text: heading ? `${heading}: ${problem.title}` : problem.title }),
    element("p", { text: problem.detail }),
    details(pairs(facts)));
}

function details(...children) {
  return element("details", {}, element("summary", { text: "Details" }), ...children);
}

function badge(found, sentence) {
  const mark = element("span", { className: "mark", "aria-hidden": "true", text: MARKS[found] ?? "•" });
  return element("p", { className: `verdict ${found ?? "none"}` }, mark, ` ${sentence}`);
}

function bar(score, scorer) {
  if (typeof scorer?.low !== "number" || typeof scorer?.high !== "number") return [];
  const share = Math.max(0, Math.min(1, (score.value - scorer.low) / (scorer.high - scorer.low)));
  const filled = element("span", { className: "filled" });
  filled.style.setProperty("width", `${(100 * share).toFixed(1)}%`);
  return [element("div", { className: `bar ${level(scorer, score) ?? "none"}`, "aria-hidden": "true" }, filled)];
}

function plain(value) {
  if (typeof value === "number") return round(value);
  if (Array.isArray(value)) return value.map(plain).join(", ");
  return value !== null && typeof value === "object" ? JSON.stringify(value) : value;
}

function scoreRow(name, score, { text, scorers }) {
  if (score.error) return element("li", {}, element("p", { className: "failed", text: `${name}: ${score.error.detail}` }));
  const scorer = scorers.find((each) => each.id === name);
  const { value, words, ...further } = score;
  const found = level(scorer, score);
  const title = element("p", { className: "score" },
    element("span", { text: name }),
    element("span", { className: "value", text: `${round(value)}${found ? ` ${MARKS[found]} ${found}` : ""}` }));
  const facts = [["scale", scale(scorer)], ...Object.entries(further).map(([key, each]) => [key, plain(each)])];
  return element("li", {}, title, ...bar(score, scorer), ...(words ? [wordLine(text, words)] : []), details(pairs(facts)));
}

function card(result, request, { place, count }) {
  const image = request.images[Number(result.id)];
  const title = element("h3", { text: count > 1 ? `${place}. ${image.name}` : image.name });
  const made = element("article", { "data-id": result.id });
  if (result.status === "error") {
    made.className = "problem";
    made.append(title, picture(image), badge("poor", `Cannot be scored: ${result.error.detail}`),
      details(pairs([["code", result.error.code], ["status", result.error.status]])));
    return made;
  }
  const found = verdict(result.scores, request.scorers);
  const rows = Object.entries(result.scores).map(([name, score]) => scoreRow(name, score, request));
  made.append(title, picture(image), badge(found.level, found.sentence), element("ul", { className: "scores" }, ...rows));
  return made;
}

// The results in order, best first by a scorer; those without a value last.
export function ordered(results, scorer) {
  const value = (result) => {
    const score = result.scores?.[scorer?.id];
    return score && !score.error ? score.value * (scorer.higher_is_better ? 1 : -1) : -Infinity;
  };
  return [...results].sort((a, b) => (value(b) === value(a) ? Number(a.id) - Number(b.id) : value(b) - value(a)));
}

export function showWaiting(place) {
  place.replaceChildren(element("p", { text: "Scoring…" }));
}

export function showProblem(place, problem) {
  place.replaceChildren(problemCard(problem));
}

// What stands over the cards: their order, and who was not asked.
function notes(results, { by, unasked }) {
  const found = [];
  if (results.length > 1) found.push(`${results.length} images, best first by ${by}.`);
  if (unasked.length) found.push(`Without a prompt ${unasked.join(", ")} cannot answer.`);
  return found.map((text) => element("p", { className: "note", text }));
}

const best = (reply, request) => ordered(reply.results, request.scorers.find((scorer) => scorer.id === request.by));

// The answer in a sentence or two, for those who do not see it.
export function said(reply, request) {
  const [first] = best(reply, request);
  const found = first.status === "error" ? `Cannot be scored: ${first.error.detail}` : verdict(first.scores, request.scorers).sentence;
  const name = request.images[Number(first.id)].name;
  return reply.results.length > 1 ? `${reply.results.length} images are scored. Best by ${request.by}: ${name}. ${found}` : `${name}: ${found}`;
}

export function showAnswer(place, reply, request) {
  const results = best(reply, request);
  const cards = results.map((result, index) => card(result, request, { place: index + 1, count: results.length }));
  const spent = Object.entries(reply.timing_ms).map(([stage, ms]) => [`${stage} ms`, ms.toFixed(1)]);
  place.replaceChildren(
    ...notes(results, request),
    element("div", { className: "cards" }, ...cards),
    element("details", {}, element("summary", { text: "Request" }), pairs([...spent, ["request", reply.request_id]])));
}
