// One number per image, as trainers and samplers take them.
import type { RewardsOptions } from "./options.js";
import type { Failure, Image, Item, ScoreReply } from "./types.js";

/** float32, in the order of the images; NaN where there is none, and then `errors` says why. */
export interface Rewards {
  values: Float32Array;
  /** Undefined where there is a value. */
  errors: (Failure | undefined)[];
}

export interface RewardsRequest {
  items: Item[];
  scorers: string[];
  /** Whose values count. */
  scorer: string;
}

/**
 * What is scored for rewards.
 *
 * @throws TypeError There are not as many prompts as images, or it is not said what to score by.
 */
export function rewardsRequest(
  images: readonly Image[], prompts: string | readonly string[] | null, { scorer, combine = {} }: RewardsOptions,
): RewardsRequest {
  const [only, ...others] = Object.keys(combine);
  const name = scorer ?? (others.length ? undefined : only);
  if (name === undefined) throw new TypeError("Rewards are of one scorer or combination: name it with scorer.");
  if (Array.isArray(prompts) && prompts.length !== images.length) {
    throw new TypeError(`There are ${images.length} images and ${prompts.length} prompts: give one for each, or one for all.`);
  }
  const textOf = (index: number) => (Array.isArray(prompts) ? prompts[index] : prompts);
  const items = images.map((image, index) => ({ image, ...(prompts === null ? {} : { text: textOf(index) as string }) }));
  return { items, scorers: combine[name]?.terms.map((term) => term.scorer) ?? [name], scorer: name };
}

export function rewardsOf(reply: ScoreReply, scorer: string): Rewards {
  const scores = reply.results.map((result) => (result.status === "error" ? result : result.scores[scorer]));
  return {
    values: Float32Array.from(scores, (score) => (score && "value" in score ? score.value : NaN)),
    errors: scores.map((score) => (!score || "value" in score ? undefined : score.error)),
  };
}
