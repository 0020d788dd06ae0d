// A long run of items as many requests, a few of them under way at a time; results come in the order of the items.
import type { Failure, Item, ItemResult, Outcome, ScoreReply } from "./types.js";

export interface StreamOptions {
  /** Items of one request; 32 by default. */
  batch?: number;
  /** Requests under way; 4 by default. */
  underWay?: number;
}

/** One item with what came of it; where its whole request failed, the problem of that. */
export interface Streamed {
  item: Item;
  outcome: { ok: true; result: ItemResult } | { ok: false; problem: Failure };
}

type Score = (items: readonly Item[]) => Promise<Outcome<ScoreReply>>;

export async function* scoreEach(
  items: Iterable<Item> | AsyncIterable<Item>, score: Score, { batch = 32, underWay = 4 }: StreamOptions,
): AsyncGenerator<Streamed> {
  const waiting: { items: Item[]; reply: Promise<Outcome<ScoreReply>> }[] = [];
  for await (const chunk of chunks(items, batch)) {
    waiting.push({ items: chunk, reply: score(chunk) });
    const first = waiting.length >= underWay ? waiting.shift() : undefined;
    if (first) yield* resultsOf(first.items, await first.reply);
  }
  for (const each of waiting) yield* resultsOf(each.items, await each.reply);
}

function* resultsOf(items: readonly Item[], reply: Outcome<ScoreReply>): Generator<Streamed> {
  for (const [index, item] of items.entries()) {
    const result = reply.ok ? reply.value.results[index] : undefined;
    if (result) yield { item, outcome: { ok: true, result } };
    else yield { item, outcome: { ok: false, problem: reply.ok ? MISSING : reply.problem } };
  }
}

const MISSING: Failure = { title: "No result", code: "no_result", detail: "The reply has no result for the item." };

async function* chunks(items: Iterable<Item> | AsyncIterable<Item>, size: number): AsyncGenerator<Item[]> {
  let chunk: Item[] = [];
  for await (const item of items) {
    chunk.push(item);
    if (chunk.length === size) {
      yield chunk;
      chunk = [];
    }
  }
  if (chunk.length) yield chunk;
}
