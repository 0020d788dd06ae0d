// The chosen images: dropped, pasted or picked, shown with a way to remove each.
import { byId, element } from "./elements.js";

const MOST = 16; // one request, one answer that fits on a page

export class Images {
  constructor(onChange) {
    this.onChange = onChange;
    this.list = [];
    this.#dropZone(byId("drop"));
    byId("file").addEventListener("change", (event) => {
      this.set([...event.target.files]);
      event.target.value = ""; // the same file may be chosen again
    });
    document.addEventListener("paste", (event) => this.set([...event.clipboardData.files]));
  }

  set(files) {
    if (!files.length) return;
    this.list.forEach((each) => URL.revokeObjectURL(each.shown));
    this.list = files.slice(0, MOST).map((file) => ({ file, name: file.name || "image", shown: URL.createObjectURL(file) }));
    this.#show(files.length > MOST ? `The first ${MOST} of ${files.length} images` : "");
    this.onChange();
  }

  #remove(image) {
    this.list = this.list.filter((each) => each !== image);
    URL.revokeObjectURL(image.shown);
    this.#show("");
    this.onChange();
    byId("file").focus();
  }

  #show(note) {
    byId("hint").textContent = note || "Drop images here, paste them, or choose files";
    byId("chosen").replaceChildren(...this.list.map((image) => {
      const remove = element("button", { type: "button", text: "×", className: "remove", "aria-label": `Remove ${image.name}` });
      remove.addEventListener("click", () => this.#remove(image));
      return element("li", {}, picture(image), element("span", { text: image.name }), remove);
    }));
  }

  #dropZone(zone) {
    const mark = (over) => (event) => {
      event.preventDefault();
      zone.classList.toggle("over", over);
    };
    zone.addEventListener("dragover", mark(true));
    zone.addEventListener("dragleave", mark(false));
    zone.addEventListener("drop", (event) => {
      mark(false)(event);
      this.set([...event.dataTransfer.files]);
    });
  }
}

export function picture(image) {
  const shown = element("img", { alt: image.name, src: image.shown });
  shown.addEventListener("error", () => { // no browser shows it, the service may say why
    shown.replaceWith(element("span", { className: "broken", text: "no picture" }));
  });
  return shown;
}
