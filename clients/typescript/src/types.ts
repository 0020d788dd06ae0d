// The names of the schema that callers meet; all of them are made from the service's own OpenAPI document.
import type { components } from "./schema.js";

type Schemas = components["schemas"];

export type Problem = Schemas["Problem"];
export type ItemProblem = Schemas["ItemProblem"];
export type ScoreReply = Schemas["ScoreReply"];
export type RankReply = Schemas["RankReply"];
export type FilterReply = Schemas["FilterReply"];
export type SelectReply = Schemas["SelectReply"];
export type EmbedReply = Schemas["EmbedReply"];
export type Calibration = Schemas["Calibration"];
export type CalibrationReply = Schemas["CalibrationReply"];
export type ClassifierEntry = Schemas["ClassifierEntry"];
export type ClassifierReply = Schemas["ClassifierReply"];
export type ReferenceEntry = Schemas["ReferenceEntry"];
export type ReferenceReply = Schemas["ReferenceReply"];
export type DriftReply = Schemas["DriftReply"];
export type DiversityReply = Schemas["DiversityReply"];
export type DistanceReply = Schemas["DistanceReply"];
export type AuditReply = Schemas["AuditReply"];
export type ReferenceSetEntry = Schemas["ReferenceSetEntry"];
export type ReferenceSetReply = Schemas["ReferenceSetReply"];
export type Elements = Schemas["Elements"];
export type GuardOptions = Schemas["GuardOptions"];
export type GuardFlags = Schemas["GuardFlags"];
export type Pool = NonNullable<Schemas["Item"]["pool"]>;
export type Vector = NonNullable<Schemas["EncodingSet"]["embeddings"]>[number];
export type ItemResult = ScoreReply["results"][number];
export type ItemVerdict = FilterReply["results"][number];
export type ScoreValue = Schemas["ScoreValue"];
export type ScorerEntry = Schemas["ScorerEntry"];
export type EncoderEntry = Schemas["EncoderEntry"];
export type Question = Schemas["Question"];
export type Threshold = Schemas["Threshold"];
export type Combination = Schemas["Combination"];
export type Priority = NonNullable<Schemas["ScoreRequest"]["priority"]>;

/** Bytes of a compressed image file: a `Buffer` of Node is one, and so is a `File` of a browser. */
export type ImageBytes = Blob | Uint8Array | ArrayBuffer;

/** Pixels, row by row, uint8: `height * width * channels` bytes; alpha is straight. */
export interface RawPixels {
  pixels: ImageBytes;
  height: number;
  width: number;
  channels?: 3 | 4;
}

/** One image: bytes, pixels, or where the service fetches it, if it may. The same object is sent once. */
export type Image = ImageBytes | RawPixels | { url: string };

export interface Item {
  image?: Image;
  text?: string;
  id?: string;
  references?: string[];
  referenceImage?: Image;
  phrases?: string[];
  questions?: Question[];
  /** Of a video, in its order, in place of `image`. */
  frames?: readonly Image[];
  /** How the values of frames become one; `mean` by default. */
  pool?: Pool;
  /** The class that a calibration with groups has a threshold for. */
  group?: string;
}

/** A set of images: themselves, their encodings, or the SHA-256 of files that the service has encoded before. */
export type ImageSet =
  | { images: readonly Image[] }
  | { embeddings: readonly Vector[]; encoder?: string }
  | { hashes: readonly string[] };

/** A set that the service keeps, by its name; see `referSet`. */
export interface ReferenceSet {
  reference: string;
}

/** What a call came to: errors are values, and nothing is thrown for what a service or a network does. */
export type Outcome<T> =
  | { ok: true; value: T; requestId: string }
  | { ok: false; problem: Failure; requestId: string | undefined };

/** Why a call failed: the service's problem, or one of the client's own in the same shape. */
export type Failure = Pick<Problem, "title" | "detail" | "code"> & Partial<Problem>;

export interface CallOptions {
  /** Milliseconds for the call with all its attempts; 30 000 by default. */
  timeoutMs?: number;
  /** In place of the client's; `normal` by default. */
  priority?: Priority;
  /** In place of the client's; false by default. */
  deterministic?: boolean;
  /** Names the call in the service's logs and in its outcome; by default the service makes one up. */
  requestId?: string;
  signal?: AbortSignal;
}
