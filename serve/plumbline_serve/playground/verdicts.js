// What an answer means, in a sentence and a level: good, middling or poor by the scorer's own scale.

// Their values say which of two fits better, and nothing alone: no level.
const RELATIVE = new Set([
  "clipscore", "refclipscore", "phrase_clipscore", "image_similarity", "pickscore", "hpsv2", "hpsv3", "imagereward",
]);
export const MARKS = { good: "✓", middling: "~", poor: "✗" };

export const missing = (score) => (score?.words ?? []).filter((word) => word.misaligned).map((word) => word.text);

export function level(scorer, score) {
  if (!scorer || score.error) return null;
  if (score.words && missing(score).length) return "poor";
  if (score.words) return score.cosine > 0 ? "good" : null; // 0 stands for a text that does not fit at all, too
  if (RELATIVE.has(scorer.id) || typeof scorer.low !== "number" || typeof scorer.high !== "number") return null;
  const share = (score.value - scorer.low) / (scorer.high - scorer.low);
  const good = scorer.higher_is_better ? share : 1 - share;
  return good >= 2 / 3 ? "good" : good >= 1 / 3 ? "middling" : "poor";
}

// The sentence over an image's scores, and its level.
export function verdict(scores, scorers) {
  const absent = missing(scores.fclipscore);
  if (absent.length) return { level: "poor", sentence: `Does not show: ${absent.join(", ")}.` };
  const vqa = scores.vqascore;
  const byVqa = vqa && !vqa.error ? level(scorers.find((each) => each.id === "vqascore"), vqa) : null;
  if (byVqa === "poor") return { level: "poor", sentence: "Does not show the prompt." };
  if (byVqa === "middling") return { level: "middling", sentence: "May show the prompt." };
  if (byVqa === "good") return { level: "good", sentence: "Shows the prompt." };
  if (scores.fclipscore?.cosine > 0) return { level: "good", sentence: "Shows every word of the prompt." };
  const levels = Object.entries(scores).map(([id, score]) => [id, level(scorers.find((each) => each.id === id), score)]);
  const worst = ["poor", "middling", "good"].find((each) => levels.some(([, found]) => found === each)) ?? null;
  if (!worst) return { level: null, sentence: "Scored; compare it with others." };
  const names = levels.filter(([, found]) => found === worst).map(([id]) => id);
  const said = { good: "Good", middling: "Middling", poor: "Poor" };
  return { level: worst, sentence: `${said[worst]} by ${names.join(", ")}.` };
}

export function scale(scorer) {
  if (!scorer) return "";
  const better = scorer.higher_is_better ? "higher is better" : "lower is better";
  return `${scorer.low ?? "−∞"} to ${scorer.high ?? "∞"}, ${better}`;
}
