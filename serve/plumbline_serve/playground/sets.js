// The images as a set: how many different ones they are, and which are the same; as POST /v1/sets/diversity says.
import { element, pairs, round } from "./elements.js";
import { picture } from "./images.js";

export const NEAR = 0.98; // cosine from which on two are near-duplicates

const listed = (values) => Object.entries(values).map(([order, value]) => `${order}: ${round(value)}`).join(", ");

function named(image) {
  const shown = picture(image);
  shown.alt = ""; // its name stands beside it
  return element("li", {}, shown, element("span", { text: image.name }));
}

function group(members, reply, images) {
  const isOneFile = reply.identical.some((each) => members.every((index) => each.includes(index)));
  return [
    element("p", { className: "verdict middling", text: isOneFile ? "~ The same image:" : "~ Near-duplicates:" }),
    element("ul", { className: "same" }, ...members.map((index) => named(images[index]))),
  ];
}

function leftOut(errors, images) {
  const names = (errors ?? []).map((each) => images[each.index].name);
  return names.length ? [element("p", { className: "note", text: `Left out, for they cannot be used: ${names.join(", ")}.` })] : [];
}

export function showSet(place, reply, images) {
  const facts = [
    ["Vendi score by order", listed(reply.vendi)],
    ["about the mean", listed(reply.vendi_centred)],
    ["mean cosine of pairs", reply.mean_pairwise === null ? "" : round(reply.mean_pairwise)],
    ["encoder", reply.encoder],
  ];
  const groups = reply.duplicates.flatMap((members) => group(members, reply, images));
  place.replaceChildren(element("section", { "aria-labelledby": "set-title" },
    element("h3", { id: "set-title", text: "All images together" }),
    element("p", { className: "score" },
      element("span", { text: `Different images among ${reply.n}, in effect` }),
      element("span", { className: "value", text: round(reply.vendi["1"]) })),
    ...(groups.length ? groups : [element("p", { className: "verdict good", text: `✓ No two are near-duplicates (cosine of ${NEAR} or more).` })]),
    ...leftOut(reply.errors, images),
    element("details", {}, element("summary", { text: "Details" }), pairs(facts),
      element("p", { className: "note", text: "Compare these only with sets by the same encoder." }))));
}

export function saidOfSet(reply) {
  const same = reply.duplicates.length ? `Groups of the same or nearly the same: ${reply.duplicates.length}.` : "No two are near-duplicates.";
  return `Different images among ${reply.n}, in effect: ${round(reply.vendi["1"])}. ${same}`;
}

export function showNoSet(place, problem) {
  place.replaceChildren(element("p", { className: "note", text: `Nothing is said of all images together: ${problem.detail}` }));
}
