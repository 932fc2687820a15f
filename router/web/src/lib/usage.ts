// Sums of what was used.

import type { Used } from "./people";

export interface Total extends Omit<Used, "user" | "model"> {
  name: string;
  /** Of all tokens, 0 to 1. */
  share: number;
}

/** Sums by a name, the largest first. */
export function totals(used: Used[], name: (row: Used) => string): Total[] {
  const sums = new Map<string, Total>();
  let all = 0;
  for (const row of used) {
    const known = sums.get(name(row));
    const sum = known ?? { name: name(row), requests: 0, prompt_tokens: 0, cached_tokens: 0, completion_tokens: 0, share: 0 };
    if (!known) sums.set(sum.name, sum);
    for (const field of ["requests", "prompt_tokens", "cached_tokens", "completion_tokens"] as const) sum[field] += row[field];
    all += row.prompt_tokens + row.completion_tokens;
  }
  const tokens = (sum: Total) => sum.prompt_tokens + sum.completion_tokens;
  const rows = [...sums.values()].map((sum) => ({ ...sum, share: all === 0 ? 0 : tokens(sum) / all }));
  return rows.sort((a, b) => tokens(b) - tokens(a) || a.name.localeCompare(b.name));
}
