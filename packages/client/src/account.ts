/** What an answer came to: its tokens, who says so, what it cost, and what a Stop has saved. */

import type { Unchecked } from "./json.js";

/**
 * Where the numbers come from.
 * - `provider`: the service said so.
 * - `counted`: by a tokenizer of the model's, from what was sent and what had come.
 * - `estimated`: from the length of both; `usageSpread` says how far it may be off.
 * - `none`: nothing is known.
 */
export type UsageSource = "provider" | "counted" | "estimated" | "none";

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  /** What else the service says. */
  [name: string]: unknown;
}

export interface Account {
  usage: Usage | null;
  usageSource: UsageSource;
  /** The part of `completion_tokens` by which an estimate may be wrong, either way: 0.2 for a fifth. */
  usageSpread?: number;
  /** null if the model has no price, or nothing is known of its tokens. */
  cost: { amount: number; currency: string } | null;
  /** Tokens that a Stop has saved at the most: `max_tokens` less what came. */
  savedAtMost?: number;
  /** What finished answers of this model had beyond this length: the median, and the quartiles. */
  savedLikely?: { tokens: number; from: number; to: number };
}

const SOURCES: Unchecked[] = ["provider", "counted", "estimated", "none"];

/** The account in what a server or a file has said; undefined if there is none. */
export function accountIn(said: Unchecked): Account | undefined {
  const { usage, usageSource, usageSpread, cost, savedAtMost, savedLikely } = said ?? {};
  if (!SOURCES.includes(usageSource)) {
    return undefined;
  }
  return {
    usage: haveCounts(usage, "prompt_tokens", "completion_tokens") ? usage : null,
    usageSource,
    ...(isCount(usageSpread) && { usageSpread }),
    cost: isCount(cost?.amount) && isCurrency(cost.currency) ? cost : null,
    ...(isCount(savedAtMost) && { savedAtMost }),
    ...(haveCounts(savedLikely, "tokens", "from", "to") && { savedLikely }),
  };
}

function haveCounts(value: Unchecked, ...names: string[]): boolean {
  return names.every((name) => isCount(value?.[name]));
}

function isCount(value: unknown): value is number {
  return Number.isFinite(value) && Number(value) >= 0;
}

/** What `Intl` takes for one: it throws for anything else. */
function isCurrency(value: unknown): boolean {
  return typeof value === "string" && /^[A-Z]{3}$/.test(value);
}
