// The scorers of the service, as boxes to tick, and which of the ticked ones an image and a prompt suffice for.
import { byId, element } from "./elements.js";
import { call } from "./service.js";

const GIVEN = ["image", "text"]; // what this page sends

function line(scorer) {
  const others = scorer.needs.filter((need) => !GIVEN.includes(need)).map((need) => need.replaceAll("_", " "));
  const box = element("input", { type: "checkbox", name: "scorer", value: scorer.id });
  box.disabled = others.length > 0;
  box.checked = !box.disabled && !scorer.id.startsWith("classifier:"); // those of others are not asked unless they are chosen
  const more = others.length ? ` It needs ${others.join(" and ")}, which this page does not send.` : "";
  return element("label", {}, box, element("span", {}, scorer.id, " ", element("small", { text: `${scorer.summary}${more}` })));
}

// Shows them; returns what the service lists, or why it does not.
export async function showScorers() {
  const { body, problem } = await call("v1/scorers");
  if (problem) {
    byId("scorers").replaceChildren(element("p", { text: problem.detail }));
    return { scorers: [], problem };
  }
  byId("scorers").replaceChildren(...body.scorers.map(line));
  byId("demo").hidden = !body.scorers.some((scorer) => scorer.demo);
  return { scorers: body.scorers };
}

// The ticked ones that can answer, and those that would answer if there were a prompt.
export function ticked(scorers, text) {
  const names = [...document.querySelectorAll("input[name=scorer]:checked")].map((box) => box.value);
  const needsText = (name) => scorers.find((each) => each.id === name).needs.includes("text");
  return { names: names.filter((name) => text || !needsText(name)), unasked: text ? [] : names.filter(needsText) };
}
