// Calls to the service: a document, or a problem, whatever happens on the way.
import { byId } from "./elements.js";

const key = () => byId("key").value.trim();

function headers() {
  return key() ? { authorization: `Bearer ${key()}` } : {};
}

// What the page says in place of the service, where the key is what is wrong; its field opens.
function aboutKey(problem) {
  byId("access").open = true;
  byId("key").focus();
  if (problem.status === 403) return problem; // the key is known, and not for this: the service says for what it is
  if (key()) return { ...problem, title: "The key is not known", detail: "This service does not know the key under “API key”: correct it and score again." };
  return { ...problem, title: "A key is needed", detail: "This service asks for an API key: enter it under “API key” and score again." };
}

function problemOf(response, body) {
  if (response.status === 401 || response.status === 403) return aboutKey({ ...body, status: response.status });
  const wait = response.headers.get("retry-after");
  if (wait) return { ...body, detail: `${body.detail} Try again in ${wait} s.` };
  return body;
}

export async function call(path, options) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: headers() });
  } catch {
    return { problem: { title: "No answer", detail: `The service at ${location.host} does not answer. Is it still running?` } };
  }
  try {
    const body = await response.json();
    return response.ok ? { body } : { problem: problemOf(response, body) };
  } catch {
    return { problem: { title: "No answer", detail: `Something other than Plumbline answered with status ${response.status}.`, status: response.status } };
  }
}

// A document with its images, as one multipart form.
export function post(path, document, images) {
  const form = new FormData();
  form.append("request", new Blob([JSON.stringify(document)], { type: "application/json" }));
  images.forEach((image, index) => form.append(`image${index}`, image.file, "image"));
  return call(path, { method: "POST", body: form });
}
