// What can be chosen for the client, and for each of its methods.
import type { Retries } from "./sending.js";
import type { CallOptions, Calibration, Combination, Elements, GuardOptions, ImageSet, Priority } from "./types.js";

export interface PlumblineOptions {
  /** Sent as `Authorization: Bearer`. */
  apiKey?: string | undefined;
  /** Of every call with all its attempts; 30 000 by default. */
  timeoutMs?: number;
  /** Of every call; `normal` by default. */
  priority?: Priority;
  /** Whether the numbers of every reply are the same, bit for bit, whatever else the service computes; false by default. */
  deterministic?: boolean;
  /** Sent with every call. */
  headers?: Record<string, string>;
  retries?: Partial<Retries>;
  /** In place of the platform's. */
  fetch?: typeof globalThis.fetch;
}

export interface ScoreOptions extends CallOptions {
  /** By default every loaded scorer that an item allows. */
  scorers?: readonly string[];
  combine?: Record<string, Combination>;
  /** Have guards look at the images: `{}`, or with `views` and `explain`. */
  guards?: GuardOptions;
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
  /** Of the draw by temperature. */
  seed?: number;
}

export interface RewardsOptions extends CallOptions {
  /** Or a combination; by default the only one of `combine`. */
  scorer?: string;
  combine?: Record<string, Combination>;
}

export interface FilterOptions extends CallOptions {
  combine?: Record<string, Combination>;
  /** Run every scorer even on rejected items. */
  explain?: boolean;
}

export interface EmbedOptions extends CallOptions {
  /** Whose encoder; by default that of the first loaded scorer that has one for texts. */
  scorer?: string;
}

export interface CalibrateOptions extends CallOptions {
  /** Share of good ones that may be lost (`keep_good`), or of bad ones that may pass (`reject_bad`). */
  alpha: number;
  direction: Calibration["direction"];
  /** The group of each score, such as the class of its prompt. */
  groups?: readonly string[];
  /** The promise holds for such a share of calibrations; by default on average over them. */
  confidence?: number;
  /** One combination by its name, in place of a scorer. */
  combine?: Record<string, Combination>;
}

export interface ClassifyOptions extends CallOptions {
  /** Whose encoders; by default those of the first loaded scorer with one of images and of texts. */
  scorer?: string;
}

export interface DiversityOptions extends CallOptions {
  /** The prompt of each member, for SCE. */
  texts?: readonly string[];
  /** How much each member counts in the Vendi score. */
  weights?: readonly number[];
  /** Of the Vendi score, 0.5 to 1000 or `Infinity`; by default 1, 2 and infinity. */
  orders?: readonly number[];
  /** Least cosine of near-duplicates, by default 0.98; null: only equal members are found. */
  nearDuplicate?: number | null;
  scorer?: string;
}

export interface DistanceOptions extends CallOptions {
  /** Width of the Gaussian kernel; 0.5 by default. */
  rbfSigma?: number;
  /** Whose encoder; by default that of the reference, else the first loaded scorer's that has both. */
  scorer?: string;
}

export interface ReferSetOptions extends CallOptions {
  /** Whose encoder; by default the first loaded scorer's that has both. */
  scorer?: string;
}

export interface AuditOptions extends CallOptions {
  /** Not needed where labels are all that is known. */
  members?: ImageSet;
  /** The group of each member, null where nobody can tell. */
  labels?: readonly (string | null)[];
  /** A text for each group, in place of labels: each member gets that of the nearest. */
  prompts?: readonly string[];
  /** By how much the best group's probability has to be above the second; 0.2 by default. */
  margin?: number;
  /** The two groups whose gap is meant; by default the largest and the smallest. */
  pair?: readonly [string, string];
  /** The share that each group should have; by default all even. */
  wanted?: readonly number[];
  /** Share of the stereotypical, for the composite. */
  association?: number;
  /** What images are asked about. */
  elements?: Elements;
  /** Whether groups are those that were seen, as T2I-BiasBench's program has it. */
  isOfficial?: boolean;
  scorer?: string;
}
