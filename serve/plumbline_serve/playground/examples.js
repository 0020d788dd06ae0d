// The gallery: pictures, each with a caption that is right and one that is wrong, one click each.
import { byId, element } from "./elements.js";

async function fileOf(name) {
  const response = await fetch(`gallery/${name}`);
  return new File([await response.blob()], name, { type: "image/png" });
}

function choice(exhibit, kind, tryIt) {
  const mark = { right: "✓", wrong: "✗" }[kind];
  const button = element("button", { type: "button", className: "example" },
    element("span", { "aria-hidden": "true", text: `${mark} ` }), exhibit[kind],
    element("span", { className: "unseen", text: ` (${kind})` }));
  button.addEventListener("click", async () => tryIt(await fileOf(exhibit.image), exhibit[kind]));
  return button;
}

// Shows the gallery; returns what tries its first picture with the wrong caption.
export async function showExamples(tryIt) {
  const place = byId("examples");
  const exhibits = await (await fetch("gallery/captions.json")).json();
  place.replaceChildren(...exhibits.map((exhibit) => element("figure", {},
    element("img", { src: `gallery/${exhibit.image}`, alt: exhibit.right, width: "96", height: "96", loading: "lazy" }),
    element("figcaption", {}, choice(exhibit, "right", tryIt), choice(exhibit, "wrong", tryIt)))));
  const [first] = exhibits;
  return async () => tryIt(await fileOf(first.image), first.wrong, { isAsked: false });
}
