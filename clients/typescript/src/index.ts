// The client: a method for each route, over fetch; nothing to install besides it, in Node and in browsers.
import { Parts, itemsOf } from "./form.js";
import { send, type Retries } from "./sending.js";
import { scoreEach, type StreamOptions, type Streamed } from "./stream.js";
import type {
  CallOptions, Combination, EmbedReply, EncoderEntry, FilterReply, Image, Item, Outcome, RankReply, ScoreReply,
  ScorerEntry, SelectReply, Threshold,
} from "./types.js";

export type * from "./types.js";
export type { Retries, StreamOptions, Streamed };

export interface PlumblineOptions {
  /** Sent as `Authorization: Bearer`. */
  apiKey?: string | undefined;
  timeoutMs?: number;
  retries?: Partial<Retries>;
  /** In place of the platform's. */
  fetch?: typeof globalThis.fetch;
}

export interface ScoreOptions extends CallOptions {
  /** By default every loaded scorer that an item allows. */
  scorers?: readonly string[];
  combine?: Record<string, Combination>;
}

export interface RankOptions extends CallOptions {
  scorer?: string;
  combine?: Record<string, Combination>;
  topK?: number;
}

export interface SelectOptions extends CallOptions {
  scorer?: string;
  combine?: Record<string, Combination>;
  /** Of the scorer with what people want, 0 to 1. */
  correlation?: number;
  correlationInterval?: [number, number];
  temperature?: number;
}

export interface FilterOptions extends CallOptions {
  combine?: Record<string, Combination>;
  /** Run every scorer even on rejected items. */
  explain?: boolean;
}

const DEFAULT_TIMEOUT_MS = 30_000;
const RETRIES: Retries = { maxAttempts: 4, firstWaitMs: 100 };

export class Plumbline {
  readonly #url: string;
  readonly #options: PlumblineOptions;

  /** @param url Of the service; without a scheme it is `http`. */
  constructor(url: string, options: PlumblineOptions = {}) {
    const whole = new URL(/^[a-z][a-z0-9+.-]*:\/\//i.test(url) ? url : `http://${url}`);
    this.#url = whole.href.replace(/\/$/, "");
    this.#options = options;
  }

  /** Score items in one batch; one bad item never fails its neighbours. */
  score(items: readonly Item[], { scorers, combine, ...options }: ScoreOptions = {}): Promise<Outcome<ScoreReply>> {
    const parts = new Parts();
    return this.#post("/v1/score", { items: itemsOf(items, parts), scorers, combine }, parts, options);
  }

  /** Order images for a text, best first. */
  rank(text: string, images: readonly Image[], options?: RankOptions): Promise<Outcome<RankReply>>;
  /** Order texts for an image, best first. */
  rank(image: Image, texts: readonly string[], options?: RankOptions): Promise<Outcome<RankReply>>;
  rank(
    query: string | Image, candidates: readonly (string | Image)[], { scorer, combine, topK, ...options }: RankOptions = {},
  ): Promise<Outcome<RankReply>> {
    const parts = new Parts();
    const asked = typeof query === "string"
      ? { text: query, images: (candidates as readonly Image[]).map((each) => parts.source(each)) }
      : { image: parts.source(query), texts: candidates };
    return this.#post("/v1/rank", { ...asked, scorer, combine, top_k: topK }, parts, options);
  }

  /** Accept or reject items by thresholds that must all hold, the cheapest scorer first. */
  filter(
    items: readonly Item[], policy: readonly Threshold[], { combine, explain, ...options }: FilterOptions = {},
  ): Promise<Outcome<FilterReply>> {
    const parts = new Parts();
    return this.#post("/v1/filter", { policy: { all: policy }, items: itemsOf(items, parts), combine, explain }, parts, options);
  }

  /** The best of the images for a text, and what choosing it is certain to gain by how well the scorer agrees with people. */
  select(
    text: string, images: readonly Image[], { scorer, combine, correlation, correlationInterval, temperature, ...options }: SelectOptions = {},
  ): Promise<Outcome<SelectReply>> {
    const parts = new Parts();
    const asked = { text, images: images.map((each) => parts.source(each)), scorer, combine, correlation, correlation_interval: correlationInterval, temperature };
    return this.#post("/v1/select", asked, parts, options);
  }

  /** Unit-norm vectors of images or texts. */
  embed(
    inputs: { images: readonly Image[] } | { texts: readonly string[] }, { scorer, ...options }: CallOptions & { scorer?: string } = {},
  ): Promise<Outcome<EmbedReply>> {
    const parts = new Parts();
    const asked = "images" in inputs ? { images: inputs.images.map((each) => parts.source(each)) } : inputs;
    return this.#post("/v1/embed", { ...asked, scorer }, parts, options);
  }

  /** Score a long run of items, in batches; results come in their order, and a batch that fails fails alone. */
  scoreStream(
    items: Iterable<Item> | AsyncIterable<Item>, { batch, underWay, ...options }: ScoreOptions & StreamOptions = {},
  ): AsyncGenerator<Streamed> {
    const cut = { ...(batch === undefined ? {} : { batch }), ...(underWay === undefined ? {} : { underWay }) };
    return scoreEach(items, (chunk) => this.score(chunk, options), cut);
  }

  /** What is loaded. */
  async scorers(options: CallOptions = {}): Promise<Outcome<ScorerEntry[]>> {
    return mapped(await this.#call<{ scorers: ScorerEntry[] }>("/v1/scorers", {}, options), (body) => body.scorers);
  }

  /** The encoders behind the scorers. */
  async models(options: CallOptions = {}): Promise<Outcome<EncoderEntry[]>> {
    return mapped(await this.#call<{ models: EncoderEntry[] }>("/v1/models", {}, options), (body) => body.models);
  }

  #post<T>(path: string, request: object, parts: Parts, { priority, ...options }: CallOptions): Promise<Outcome<T>> {
    return this.#call<T>(path, { method: "POST", body: parts.form({ ...request, priority }) }, options);
  }

  #call<T>(path: string, init: RequestInit, { timeoutMs, signal }: CallOptions): Promise<Outcome<T>> {
    const { apiKey, fetch = globalThis.fetch, retries } = this.#options;
    return send<T>(this.#url + path, init, {
      fetch: (input, options) => fetch(input, options),
      headers: apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` },
      retries: { ...RETRIES, ...retries },
      timeoutMs: timeoutMs ?? this.#options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
      signal,
    });
  }
}

function mapped<T, R>(outcome: Outcome<T>, map: (value: T) => R): Outcome<R> {
  return outcome.ok ? { ...outcome, value: map(outcome.value) } : outcome;
}
