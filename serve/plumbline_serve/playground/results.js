// The answer: values in their range, words with what they add, problems, timing. Text only, never markup.

function element(name, { text, className } = {}, ...children) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  made.append(...children);
  return made;
}

const round = (value) => Number(value).toPrecision(4);

function pairs(entries) {
  const rows = entries.filter(([, value]) => value !== undefined && value !== null);
  return element("dl", {}, ...rows.flatMap(([name, value]) => [
    element("dt", { text: name }),
    element("dd", { text: String(value) }),
  ]));
}

function problemCard(problem, heading) {
  const faults = (problem.errors ?? []).map((fault) => [fault.pointer || "request", fault.detail]);
  const facts = [["status", problem.status], ["code", problem.code], ["request", problem.request_id], ...faults];
  return element("article", { className: "problem" },
    element("h3", { text: heading ? `${heading}: ${problem.title}` : problem.title }),
    element("p", { text: problem.detail }),
    pairs(facts));
}

function bar(value, scorer) {
  if (typeof scorer?.low !== "number" || typeof scorer?.high !== "number") return [];
  const meter = element("meter", { text: round(value) });
  meter.min = scorer.low;
  meter.max = scorer.high;
  meter.value = value;
  meter.setAttribute("aria-label", `${scorer.id}, ${scorer.low} to ${scorer.high}`);
  return [meter];
}

function rangeSentence(scorer) {
  if (!scorer) return "";
  const better = scorer.higher_is_better ? "higher is better" : "lower is better";
  return `${scorer.low ?? "−∞"} to ${scorer.high ?? "∞"}, ${better}`;
}

function wordMark(word) {
  const name = element("span", { text: word.text, className: word.misaligned ? "misaligned" : "" });
  if (word.misaligned) name.title = "misaligned: the image does not show it";
  return element("ruby", {}, name, element("rt", { text: Number(word.attribution).toExponential(1) }));
}

function wordLine(text, words) {
  const characters = Array.from(text); // offsets count characters, not UTF-16 units
  const line = element("p", { className: "words" });
  let reached = 0;
  for (const word of words) {
    line.append(characters.slice(reached, word.start).join(""), wordMark(word));
    reached = word.end;
  }
  line.append(characters.slice(reached).join(""));
  const missing = words.filter((word) => word.misaligned).map((word) => word.text);
  const sentence = missing.length ? `Misaligned: ${missing.join(", ")}.` : "No word is misaligned.";
  return [line, element("p", { text: sentence })];
}

function scoreCard(name, score, { text, scorers }) {
  if (score.error) return problemCard(score.error, name);
  const scorer = scorers.find((each) => each.id === name);
  const title = element("h3", { text: name }, element("output", { text: round(score.value) }));
  const { value, words, ...further } = score;
  const plain = Object.entries(further).map(([key, each]) => [key, typeof each === "number" ? round(each) : each]);
  return element("article", {},
    title,
    ...bar(value, scorer),
    element("p", { text: rangeSentence(scorer) }),
    ...(words ? wordLine(text, words) : []),
    pairs(plain));
}

export function showWaiting(place) {
  place.replaceChildren(element("p", { text: "Scoring…" }));
}

export function showProblem(place, problem) {
  place.replaceChildren(problemCard(problem));
}

export function showAnswer(place, reply, request) {
  const [result] = reply.results;
  const cards = result.status === "error"
    ? [problemCard(result.error)]
    : Object.entries(result.scores).map(([name, score]) => scoreCard(name, score, request));
  const spent = Object.entries(reply.timing_ms).map(([stage, ms]) => [`${stage} ms`, ms.toFixed(1)]);
  place.replaceChildren(...cards, pairs([...spent, ["request", reply.request_id]]));
}
