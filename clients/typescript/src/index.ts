// The client: a method for each route, over fetch; nothing to install besides it, in Node and in browsers.
import { Parts, itemsOf, setOf, sourcesOf } from "./form.js";
import { rewardsOf, rewardsRequest, type Rewards } from "./rewards.js";
import { checkedHeaders, send, type Retries } from "./sending.js";
import { scoreEach, type StreamOptions, type Streamed } from "./stream.js";
import type {
  AuditOptions, CalibrateOptions, ClassifyOptions, DistanceOptions, DiversityOptions, EmbedOptions, FilterOptions,
  PlumblineOptions, RankOptions, ReferSetOptions, RewardsOptions, ScoreOptions, SelectOptions,
} from "./options.js";
import type {
  AuditReply, CallOptions, Calibration, CalibrationReply, ClassifierEntry, ClassifierReply, DistanceReply,
  DiversityReply, DriftReply, EmbedReply, EncoderEntry, FilterReply, Image, ImageSet, Item, Outcome, RankReply,
  ReferenceEntry, ReferenceReply, ReferenceSet, ReferenceSetEntry, ReferenceSetReply, ScoreReply, ScorerEntry,
  SelectReply, Threshold,
} from "./types.js";

export type * from "./options.js";
export type * from "./types.js";
export type { Retries, Rewards, StreamOptions, Streamed };

const DEFAULT_TIMEOUT_MS = 30_000;
const RETRIES: Retries = { maxAttempts: 4, firstWaitMs: 100 };
/** Statuses, and codes of the client's own, of a service that may be ready later. */
const NOT_YET = new Set<unknown>([429, 503, 504, "no_answer", "deadline_exceeded"]);

export class Plumbline {
  readonly #url: string;
  readonly #options: PlumblineOptions;
  readonly #headers: Record<string, string>;

  /**
   * @param url Of the service; without a scheme it is `http`.
   * @throws TypeError The address is none, or a header or the key cannot be sent.
   */
  constructor(url: string, options: PlumblineOptions = {}) {
    const whole = new URL(/^[a-z][a-z0-9+.-]*:\/\//i.test(url) ? url : `http://${url}`);
    this.#url = whole.href.replace(/\/$/, "");
    this.#options = options;
    const { apiKey, headers = {} } = options;
    this.#headers = checkedHeaders(apiKey === undefined ? headers : { ...headers, authorization: `Bearer ${apiKey}` });
  }

  /** Score items in one batch; one bad item never fails its neighbours. */
  score(items: readonly Item[], { scorers, combine, guards, ...options }: ScoreOptions = {}): Promise<Outcome<ScoreReply>> {
    const parts = new Parts();
    return this.#post("/v1/score", { items: itemsOf(items, parts), scorers, combine, guards }, parts, options);
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
      ? { text: query, images: sourcesOf(candidates as readonly Image[], parts) }
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

  /** One scorer's value, or one combination's, for each image; `prompts` is one for each, one for all, or null for scorers without. */
  async rewards(
    images: readonly Image[], prompts: string | readonly string[] | null, options: RewardsOptions,
  ): Promise<Outcome<Rewards>> {
    const { items, scorers, scorer } = rewardsRequest(images, prompts, options);
    if (!items.length) return { ok: true, value: { values: new Float32Array(), errors: [] }, requestId: options.requestId ?? "" };
    const { scorer: _, ...others } = options;
    return mapped(await this.score(items, { ...others, scorers }), (reply) => rewardsOf(reply, scorer));
  }

  /** The best of the images for a text, and what choosing it is certain to gain by how well the scorer agrees with people. */
  select(
    text: string, images: readonly Image[], { scorer, combine, correlation, correlationInterval, temperature, seed, ...options }: SelectOptions = {},
  ): Promise<Outcome<SelectReply>> {
    const parts = new Parts();
    const asked = { text, images: sourcesOf(images, parts), scorer, combine, correlation, correlation_interval: correlationInterval, temperature, seed };
    return this.#post("/v1/select", asked, parts, options);
  }

  /** Unit-norm vectors of images or texts. */
  embed(
    inputs: { images: readonly Image[] } | { texts: readonly string[] }, { scorer, ...options }: EmbedOptions = {},
  ): Promise<Outcome<EmbedReply>> {
    const parts = new Parts();
    const asked = "images" in inputs ? { images: sourcesOf(inputs.images, parts) } : inputs;
    return this.#post("/v1/embed", { ...asked, scorer }, parts, options);
  }

  /** Find a threshold from labelled scores, and keep it under a name, which a `Threshold` uses; of `combine` where `scorer` is null. */
  calibrate(
    name: string, scorer: string | null, labelled: { scores: readonly number[]; labels: readonly boolean[] },
    { alpha, direction, groups, confidence, combine, ...options }: CalibrateOptions,
  ): Promise<Outcome<CalibrationReply>> {
    const asked = { name, scorer, ...labelled, alpha, direction, groups, confidence, combine };
    return this.#post("/v1/calibrations", asked, new Parts(), options);
  }

  /** The calibrations that are kept, by name. */
  async calibrations(options: CallOptions = {}): Promise<Outcome<Calibration[]>> {
    return mapped(await this.#call<{ calibrations: Calibration[] }>("/v1/calibrations", {}, options), (body) => body.calibrations);
  }

  /** Forget a calibration. */
  deleteCalibration(name: string, options: CallOptions = {}): Promise<Outcome<void>> {
    return this.#forget("/v1/calibrations", name, options);
  }

  /** Learn classes from two or more images of each, and keep that as a scorer `classifier:NAME`. */
  classify(
    name: string, classes: Record<string, readonly Image[]>, prompts: Record<string, string>,
    { scorer, ...options }: ClassifyOptions = {},
  ): Promise<Outcome<ClassifierReply>> {
    const parts = new Parts();
    const shown = Object.fromEntries(Object.entries(classes).map(([each, images]) => [each, sourcesOf(images, parts)]));
    return this.#post("/v1/classifiers", { name, classes: shown, prompts, scorer }, parts, options);
  }

  /** The classifiers that are kept, by name. */
  async classifiers(options: CallOptions = {}): Promise<Outcome<ClassifierEntry[]>> {
    return mapped(await this.#call<{ classifiers: ClassifierEntry[] }>("/v1/classifiers", {}, options), (body) => body.classifiers);
  }

  /** Forget a classifier. */
  deleteClassifier(name: string, options: CallOptions = {}): Promise<Outcome<void>> {
    return this.#forget("/v1/classifiers", name, options);
  }

  /** Keep what a scorer's scores are compared with: values of a time that was good, or what the service counts now. */
  refer(scorer: string, values?: readonly number[], options: CallOptions = {}): Promise<Outcome<ReferenceReply>> {
    const asked = values === undefined ? { scorer, from_live: true } : { scorer, values };
    return this.#post("/v1/references", asked, new Parts(), options);
  }

  /** The references that are kept, by scorer. */
  async references(options: CallOptions = {}): Promise<Outcome<ReferenceEntry[]>> {
    return mapped(await this.#call<{ references: ReferenceEntry[] }>("/v1/references", {}, options), (body) => body.references);
  }

  /** Forget the reference of a scorer. */
  deleteReference(scorer: string, options: CallOptions = {}): Promise<Outcome<void>> {
    return this.#forget("/v1/references", scorer, options);
  }

  /** The scores that the service gives beside their references. */
  drift(options: CallOptions = {}): Promise<Outcome<DriftReply>> {
    return this.#call("/v1/drift", {}, options);
  }

  /** How many different images a set holds, and which are the same. */
  diversity(
    members: ImageSet, { texts, weights, orders, nearDuplicate, scorer, ...options }: DiversityOptions = {},
  ): Promise<Outcome<DiversityReply>> {
    const parts = new Parts();
    const chosen = { texts, weights, orders: orders?.map((each) => (each === Infinity ? "inf" : each)), near_duplicate: nearDuplicate, scorer };
    return this.#post("/v1/sets/diversity", { ...setOf(members, parts), ...chosen }, parts, options);
  }

  /** How far a set is from another, or from one that is kept. */
  distance(
    a: ImageSet, b: ImageSet | ReferenceSet, { rbfSigma, scorer, ...options }: DistanceOptions = {},
  ): Promise<Outcome<DistanceReply>> {
    const parts = new Parts();
    const other = "reference" in b ? { reference: b.reference } : { b: setOf(b, parts) };
    return this.#post("/v1/sets/distance", { a: setOf(a, parts), ...other, rbf_sigma: rbfSigma, scorer }, parts, options);
  }

  /** Keep a set of two or more under a name, for others to be compared with; one of the same name is replaced. */
  referSet(name: string, members: ImageSet, { scorer, ...options }: ReferSetOptions = {}): Promise<Outcome<ReferenceSetReply>> {
    const parts = new Parts();
    return this.#post("/v1/sets/references", { name, ...setOf(members, parts), scorer }, parts, options);
  }

  /** The sets that are kept, by name. */
  async referenceSets(options: CallOptions = {}): Promise<Outcome<ReferenceSetEntry[]>> {
    return mapped(await this.#call<{ sets: ReferenceSetEntry[] }>("/v1/sets/references", {}, options), (body) => body.sets);
  }

  /** Forget a set. */
  deleteReferenceSet(name: string, options: CallOptions = {}): Promise<Outcome<void>> {
    return this.#forget("/v1/sets/references", name, options);
  }

  /** How evenly a set is spread over groups, where the service allows audits. */
  audit(groups: readonly string[], { members, isOfficial, ...given }: AuditOptions): Promise<Outcome<AuditReply>> {
    const { labels, prompts, margin, pair, wanted, association, elements, scorer, ...options } = given;
    const parts = new Parts();
    const chosen = { labels, prompts, margin, pair, wanted, association, elements, scorer, ...(isOfficial ? { compat: "official" } : {}) };
    return this.#post("/v1/sets/audit", { ...(members ? setOf(members, parts) : {}), groups, ...chosen }, parts, options);
  }

  /** Score a long run of items, in batches; results come in their order, and a batch that fails fails alone. */
  scoreStream(
    items: Iterable<Item> | AsyncIterable<Item>, { batch, underWay, ...options }: ScoreOptions & StreamOptions = {},
  ): AsyncGenerator<Streamed> {
    const cut = { ...(batch === undefined ? {} : { batch }), ...(underWay === undefined ? {} : { underWay }) };
    return scoreEach(items, (chunk) => this.score(chunk, options), cut);
  }

  /** What is loaded, then the classifiers that are kept. */
  async scorers(options: CallOptions = {}): Promise<Outcome<ScorerEntry[]>> {
    return mapped(await this.#call<{ scorers: ScorerEntry[] }>("/v1/scorers", {}, options), (body) => body.scorers);
  }

  /** The encoders behind the scorers. */
  async models(options: CallOptions = {}): Promise<Outcome<EncoderEntry[]>> {
    return mapped(await this.#call<{ models: EncoderEntry[] }>("/v1/models", {}, options), (body) => body.models);
  }

  /** Whether everything is loaded, asked once; false also where nothing answers yet, but not where TLS fails. */
  async ready(options: CallOptions = {}): Promise<Outcome<boolean>> {
    const outcome = await this.#call<{ status: string }>("/readyz", {}, options, { maxAttempts: 1 });
    if (outcome.ok) return { ...outcome, value: outcome.value.status === "ready" };
    const { status, code } = outcome.problem;
    return NOT_YET.has(status ?? code) ? { ok: true, value: false, requestId: outcome.requestId ?? "" } : outcome;
  }

  async #forget(path: string, name: string, options: CallOptions): Promise<Outcome<void>> {
    return mapped(await this.#call<unknown>(`${path}/${encodeURIComponent(name)}`, { method: "DELETE" }, options), () => undefined);
  }

  #post<T>(path: string, request: object, parts: Parts, { priority, deterministic, ...options }: CallOptions): Promise<Outcome<T>> {
    const claims = { priority: priority ?? this.#options.priority, deterministic: deterministic ?? this.#options.deterministic };
    return this.#call<T>(path, { method: "POST", body: parts.form({ ...request, ...claims }) }, options);
  }

  async #call<T>(
    path: string, init: RequestInit, { timeoutMs, signal, requestId }: CallOptions, retries = this.#options.retries,
  ): Promise<Outcome<T>> {
    const { fetch = globalThis.fetch } = this.#options;
    const outcome = await send<T>(this.#url + path, init, {
      fetch: (input, options) => fetch(input, options),
      headers: { ...this.#headers, ...(requestId === undefined ? {} : checkedHeaders({ "x-request-id": requestId })) },
      retries: { ...RETRIES, ...retries },
      timeoutMs: timeoutMs ?? this.#options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
      signal,
    });
    return outcome.ok ? outcome : { ...outcome, requestId: outcome.requestId ?? requestId };
  }
}

function mapped<T, R>(outcome: Outcome<T>, map: (value: T) => R): Outcome<R> {
  return outcome.ok ? { ...outcome, value: map(outcome.value) } : outcome;
}
