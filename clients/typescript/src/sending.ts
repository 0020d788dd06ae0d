// One call with its attempts: what is refused for lack of room, and what never arrived, is sent again.
import type { Failure, Outcome } from "./types.js";

export interface Retries {
  /** In all; 4 by default, 1 turns retries off. */
  maxAttempts: number;
  /** Milliseconds of the first wait, at most; each further one may be twice as long. */
  firstWaitMs: number;
}

export interface Sending {
  fetch: typeof globalThis.fetch;
  headers: Record<string, string>;
  retries: Retries;
  timeoutMs: number;
  signal: AbortSignal | undefined;
}

const RETRIED = new Set([429, 503]);
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/; // what RFC 9110 calls a token
const VISIBLE = /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/;
/** What Node calls a certificate that it does not take, and a handshake that fails; browsers do not say. */
const OF_TLS = /^(ERR_(TLS|SSL)_|EPROTO$)|CERT|CRL|HOSTNAME_MISMATCH|INVALID_(CA|PURPOSE)|PATH_LENGTH|_LEAF_SIGNATURE/;
const NO_ANSWER = { title: "No answer", code: "no_answer" };

/**
 * Headers that HTTP can carry, with names in lower case.
 *
 * @throws TypeError for others, without their values: what `fetch` says of a header that it refuses shows all of it.
 */
export function checkedHeaders(headers: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => {
    if (!TOKEN.test(name)) throw new TypeError(`${JSON.stringify(name)} cannot be the name of a header.`);
    if (!VISIBLE.test(value)) throw new TypeError(`The header ${name} must be printable ASCII, without spaces or line ends around it.`);
    return [name.toLowerCase(), value];
  }));
}

/** Send a request until it is answered, may not be sent again, or its time is over. */
export async function send<T>(url: string, init: RequestInit, sending: Sending): Promise<Outcome<T>> {
  const until = performance.now() + sending.timeoutMs;
  for (let attempt = 1; ; attempt++) {
    const { outcome, status, retryAfterS } = await once<T>(url, init, sending, until - performance.now());
    const mayBeRetried = !outcome.ok && (status === undefined || RETRIED.has(status)) && outcome.problem.code !== "cancelled";
    const waitMs = waitFor(attempt, retryAfterS, sending.retries);
    if (!mayBeRetried || attempt >= sending.retries.maxAttempts || performance.now() + waitMs >= until) return outcome;
    if (!(await pause(waitMs, sending.signal))) return failed({ title: "Cancelled", code: "cancelled", detail: "The call was cancelled." });
  }
}

/** Never sooner than the service asks, and not all callers at once. */
function waitFor(attempt: number, retryAfterS: number | undefined, { firstWaitMs }: Retries): number {
  return (retryAfterS ?? 0) * 1000 + Math.random() * firstWaitMs * 2 ** (attempt - 1);
}

interface Attempt<T> {
  outcome: Outcome<T>;
  /** Undefined: there was no answer. */
  status?: number;
  retryAfterS?: number;
}

async function once<T>(url: string, init: RequestInit, sending: Sending, leftMs: number): Promise<Attempt<T>> {
  const timeout = AbortSignal.timeout(Math.max(1, Math.floor(leftMs)));
  const signal = sending.signal ? AbortSignal.any([sending.signal, timeout]) : timeout;
  const seconds = (Math.max(1, leftMs) / 1000).toFixed(3);
  const headers = { ...sending.headers, "x-request-timeout-seconds": seconds };
  try {
    const response = await sending.fetch(url, { ...init, headers, signal });
    return await read<T>(response, url);
  } catch (error) {
    if (sending.signal?.aborted) return { outcome: failed({ title: "Cancelled", code: "cancelled", detail: "The call was cancelled." }), status: 0 };
    if (timeout.aborted) return { outcome: failed({ ...NO_ANSWER, code: "deadline_exceeded", detail: `${url} did not answer in time.` }), status: 0 };
    if (isOfTls(error)) return { outcome: failed({ title: "No TLS", code: "unexpected_reply", detail: `There is no TLS with ${url}: ${reasonOf(error)}.` }), status: 0 };
    return { outcome: failed({ ...NO_ANSWER, detail: `${url} cannot be reached: ${reasonOf(error)}.` }) };
  }
}

async function read<T>(response: Response, url: string): Promise<Attempt<T>> {
  const requestId = response.headers.get("x-request-id") ?? undefined;
  const text = await response.text();
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    const detail = `${url} answered with status ${response.status} and no JSON: something other than Plumbline.`;
    return { outcome: failed({ title: "Unexpected reply", code: "unexpected_reply", detail, status: response.status }, requestId), status: response.status };
  }
  if (response.ok) return { outcome: { ok: true, value: body as T, requestId: requestId ?? "" }, status: response.status };
  const retryAfterS = Number(response.headers.get("retry-after") ?? NaN);
  const attempt: Attempt<T> = { outcome: failed(body as Failure, requestId), status: response.status };
  return Number.isFinite(retryAfterS) ? { ...attempt, retryAfterS } : attempt;
}

function failed(problem: Failure, requestId?: string): { ok: false; problem: Failure; requestId: string | undefined } {
  return { ok: false, problem, requestId };
}

function isOfTls(error: unknown): boolean {
  const cause: unknown = error instanceof Error ? error.cause : undefined;
  return cause instanceof Error && "code" in cause && OF_TLS.test(String(cause.code));
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error && error.cause.message ? error.cause.message : error.message;
}

/** Whether the time passed; false where the caller cancelled. */
function pause(ms: number, signal: AbortSignal | undefined): Promise<boolean> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve(false);
    const stop = () => { clearTimeout(timer); resolve(false); };
    const timer = setTimeout(() => { signal?.removeEventListener("abort", stop); resolve(true); }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
