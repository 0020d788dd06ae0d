// A threshold for each score, and which of the answered images it accepts, live: what POST /v1/filter would say.
import { element, round } from "./elements.js";

function bounds(scorer, values) {
  if (typeof scorer.low === "number" && typeof scorer.high === "number") return [scorer.low, scorer.high];
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const room = Math.max(most - least, Math.abs(most), 1e-6) * 0.5;
  return [scorer.low ?? least - room, scorer.high ?? most + room];
}

function slider(scorer, values) {
  const [least, most] = bounds(scorer, values);
  const side = scorer.higher_is_better ? "at least" : "at most";
  const input = element("input", {
    type: "range", id: `filter-${scorer.id}`, min: least, max: most, step: (most - least) / 200,
    value: scorer.higher_is_better ? least : most,
  });
  const shown = element("output", { for: input.id });
  const told = () => {
    shown.textContent = `${side} ${round(Number(input.value))}`;
    input.setAttribute("aria-valuetext", shown.textContent);
  };
  input.addEventListener("input", told);
  told();
  return { scorer, input, row: element("p", { className: "slider" }, element("label", { for: input.id, text: scorer.id }), input, shown) };
}

function passes({ scorer, input }, result) {
  const score = result.scores?.[scorer.id];
  if (!score || score.error) return false;
  const bound = Number(input.value);
  return scorer.higher_is_better ? score.value >= bound : score.value <= bound;
}

function show(place, results, sliders) {
  let accepted = 0;
  for (const result of results) {
    const failed = result.status === "ok" ? sliders.filter((each) => !passes(each, result)).map((each) => each.scorer.id) : ["error"];
    accepted += failed.length ? 0 : 1;
    const card = document.querySelector(`#answer [data-id="${result.id}"]`);
    card?.querySelector(".decision")?.remove();
    card?.querySelector("h3").after(element("p", {
      className: `decision ${failed.length ? "reject" : "accept"}`,
      text: failed.length ? `✗ reject: ${failed.join(", ")}` : "✓ accept",
    }));
  }
  place.textContent = `${accepted} of ${results.length} accepted`;
}

export function showFilter(place, reply, scorers) {
  const valued = (scorer) => reply.results.map((each) => each.scores?.[scorer.id]?.value).filter((value) => typeof value === "number");
  const scored = scorers.filter((scorer) => valued(scorer).length);
  place.replaceChildren();
  if (!scored.length) return;
  const count = element("p", { role: "status" });
  const sliders = scored.map((scorer) => slider(scorer, valued(scorer)));
  sliders.forEach((each) => each.input.addEventListener("input", () => show(count, reply.results, sliders)));
  place.append(element("details", {}, element("summary", { text: "Filter: accept or reject by thresholds" }),
    ...sliders.map((each) => each.row), count));
}
