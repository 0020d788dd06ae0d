// The request in the languages that people call from, to be copied, and the reply.
import { element } from "./elements.js";

const quoted = (text) => JSON.stringify(text);
const forShell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function shownBody({ images, text, names }) {
  const items = images.map((_, index) => ({ image: { part: `image${index}` }, ...(text ? { text } : {}) }));
  return JSON.stringify({ items, scorers: names });
}

function curl(request) {
  const parts = request.images.map((image, index) => ` \\\n  -F ${forShell(`image${index}=@${quoted(image.name)}`)}`);
  const key = request.hasKey ? " \\\n  -H \"Authorization: Bearer $PLUMBLINE_API_KEY\"" : "";
  return `curl -s ${request.url}/v1/score${key} \\\n  --form-string ${forShell(`request=${shownBody(request)}`)}${parts.join("")}`;
}

function python(request) {
  const paths = request.images.map((image) => quoted(image.name)).join(", ");
  const key = request.hasKey ? ", api_key=os.environ[\"PLUMBLINE_API_KEY\"]" : "";
  const item = request.text ? `Item(Path(path), ${quoted(request.text)})` : "Item(Path(path))";
  return [
    "# The package plumbline-client: pip install ./clients, in a checkout.",
    ...(request.hasKey ? ["import os"] : []),
    "from pathlib import Path",
    "",
    "from plumbline_client import Client, Item",
    "",
    `with Client("${request.url}"${key}) as client:`,
    `    items = [${item} for path in [${paths}]]`,
    `    for result in client.score(items, scorers=${JSON.stringify(request.names)}).results:`,
    "        print({name: score.value for name, score in result.scores.items()})",
  ].join("\n");
}

function typescript(request) {
  const key = request.hasKey ? ", { apiKey: process.env.PLUMBLINE_API_KEY }" : "";
  const paths = request.images.map((image) => quoted(image.name)).join(", ");
  const text = request.text ? `, text: ${quoted(request.text)}` : "";
  return [
    "import { readFile } from \"node:fs/promises\";",
    "import { Plumbline } from \"plumbline-client\";",
    "",
    `const plumbline = new Plumbline("${request.url}"${key});`,
    `const images = await Promise.all([${paths}].map((path) => readFile(path)));`,
    `const items = images.map((image) => ({ image${text} }));`,
    `const answer = await plumbline.score(items, { scorers: ${JSON.stringify(request.names)} });`,
    "console.log(answer.ok ? answer.value.results : answer.problem.detail);",
  ].join("\n");
}

// Tabs as the ARIA practices have them: arrows move, the chosen one is in the tab order.
function tabs(forms) {
  const panel = element("div", { role: "tabpanel", id: "code-panel" });
  const code = element("code");
  panel.append(element("pre", { tabindex: "0" }, code));
  const made = Object.entries(forms).map(([name, write]) => {
    const tab = element("button", { type: "button", role: "tab", id: `tab-${name.replace(/\W/g, "")}`, "aria-controls": panel.id, text: name });
    tab.addEventListener("click", () => choose(tab, write()));
    return { tab, write };
  });
  function choose(tab, text) {
    for (const each of made) {
      each.tab.setAttribute("aria-selected", String(each.tab === tab));
      each.tab.tabIndex = each.tab === tab ? 0 : -1;
    }
    panel.setAttribute("aria-labelledby", tab.id);
    code.textContent = text;
  }
  const list = element("div", { role: "tablist", "aria-label": "Language" }, ...made.map((each) => each.tab));
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const at = made.findIndex((each) => each.tab === document.activeElement);
    const next = made[(at + step + made.length) % made.length].tab;
    next.focus();
    next.click();
  });
  choose(made[0].tab, made[0].write());
  return { list, panel, code };
}

async function copy(code, told) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    told.textContent = "Copied.";
  } catch { // no clipboard without HTTPS, say
    getSelection().selectAllChildren(code);
    told.textContent = "Selected: copy it with Ctrl+C.";
  }
}

export function showCopies(place, request, reply) {
  const forms = {
    curl: () => curl(request),
    Python: () => python(request),
    TypeScript: () => typescript(request),
    "JSON reply": () => JSON.stringify(reply, null, 2),
  };
  const { list, panel, code } = tabs(forms);
  const told = element("span", { role: "status" });
  const button = element("button", { type: "button", text: "Copy" });
  button.addEventListener("click", () => copy(code, told));
  place.replaceChildren(element("details", {}, element("summary", { text: "Copy as code" }), list, panel, button, " ", told));
}
