// How the page makes elements: text only, never markup.

export const byId = (id) => document.getElementById(id);

export function element(name, { text, className, ...attributes } = {}, ...children) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export const round = (value) => (Math.abs(value) < 1e-3 && value !== 0 ? value.toExponential(2) : Number(value).toPrecision(3));

export function pairs(entries) {
  const rows = entries.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return element("dl", {}, ...rows.flatMap(([name, value]) => [
    element("dt", { text: name }),
    element("dd", { text: String(value) }),
  ]));
}
