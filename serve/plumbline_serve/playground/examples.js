// The gallery: pictures, each with a caption that is right and one that is wrong, one click each.
import { byId, element } from "./elements.js";

// Null where the service does not answer.
async function fileOf(name) {
  try {
    const response = await fetch(`gallery/${name}`);
    return response.ok ? new File([await response.blob()], name, { type: "image/png" }) : null;
  } catch {
    return null;
  }
}

async function listed() {
  try {
    return await (await fetch("gallery/captions.json")).json();
  } catch {
    return [];
  }
}

function choice(exhibit, kind, { tryIt, fail }) {
  const mark = { right: "✓", wrong: "✗" }[kind];
  const button = element("button", { type: "button", className: "example" },
    element("span", { "aria-hidden": "true", text: `${mark} ` }), exhibit[kind],
    element("span", { className: "unseen", text: ` (${kind})` }));
  button.addEventListener("click", async () => {
    const file = await fileOf(exhibit.image);
    if (file) await tryIt(file, exhibit[kind]);
    else fail({ title: "No answer", detail: `The service at ${location.host} does not answer. Is it still running?` });
  });
  return button;
}

// Shows the gallery; returns what tries its first picture with the wrong caption, or nothing where there is none.
export async function showExamples(tryIt, fail) {
  const place = byId("examples");
  const exhibits = await listed();
  if (!exhibits.length) {
    place.replaceChildren(element("p", { className: "note", text: "The examples could not be loaded." }));
    return null;
  }
  place.replaceChildren(...exhibits.map((exhibit) => element("figure", {},
    element("img", { src: `gallery/${exhibit.image}`, alt: exhibit.right, width: "96", height: "96", loading: "lazy" }),
    element("figcaption", {}, choice(exhibit, "right", { tryIt, fail }), choice(exhibit, "wrong", { tryIt, fail })))));
  const [first] = exhibits;
  return async () => {
    const file = await fileOf(first.image);
    if (file) await tryIt(file, first.wrong, { isAsked: false });
  };
}
