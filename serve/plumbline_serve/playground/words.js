// A prompt with its words tinted by what each adds to the match; the number shows on hover and on focus.
import { element, round } from "./elements.js";

function mark(word, most) {
  const share = Math.min(1, Math.abs(word.attribution) / (most || 1));
  const kind = word.misaligned ? "misaligned" : word.attribution < 0 ? "against" : "for";
  const said = `${round(word.attribution)}${word.misaligned ? ", not shown" : ""}`;
  const made = element("span", { className: `word ${kind}`, tabindex: "0" },
    word.text, element("span", { className: "tip", text: ` (${said})` }));
  made.style.setProperty("--share", `${Math.round(15 + 45 * share)}%`);
  return made;
}

export function wordLine(text, words) {
  const characters = Array.from(text); // offsets count characters, not UTF-16 units
  const most = Math.max(...words.map((word) => Math.abs(word.attribution)), 0);
  const line = element("p", { className: "words" });
  let reached = 0;
  for (const word of words) {
    line.append(characters.slice(reached, word.start).join(""), mark(word, most));
    reached = word.end;
  }
  line.append(characters.slice(reached).join(""));
  return line;
}
