// Sums of what was used.

import type { MonthUsage, Used } from "./people";

export interface Total extends Omit<Used, "user" | "model"> {
  name: string;
  /** Of all tokens, 0 to 1. */
  share: number;
}

const SUMMED = ["requests", "prompt_tokens", "cached_tokens", "completion_tokens", "energy_kwh", "cpu_seconds", "cost"] as const;

/** Sums by a name, the largest first. */
export function totals(used: Used[], name: (row: Used) => string): Total[] {
  const sums = new Map<string, Total>();
  let all = 0;
  for (const row of used) {
    const known = sums.get(name(row));
    const sum = known ?? { name: name(row), requests: 0, prompt_tokens: 0, cached_tokens: 0, completion_tokens: 0, energy_kwh: 0, cpu_seconds: 0, cost: 0, share: 0 };
    if (!known) sums.set(sum.name, sum);
    for (const field of SUMMED) sum[field] += row[field];
    all += row.prompt_tokens + row.completion_tokens;
  }
  const tokens = (sum: Total) => sum.prompt_tokens + sum.completion_tokens;
  const rows = [...sums.values()].map((sum) => ({ ...sum, share: all === 0 ? 0 : tokens(sum) / all }));
  return rows.sort((a, b) => tokens(b) - tokens(a) || a.name.localeCompare(b.name));
}

/** Why no energy is shown; null where it is. */
export function unmeasured({ used, energy }: Pick<MonthUsage, "used" | "energy">): string | null {
  if (energy.own_kwh > 0 || used.some(({ energy_kwh }) => energy_kwh > 0)) return null;
  if (energy.unreadable.length > 0) return `The server may not read ${energy.unreadable[0]}`;
  return energy.counters.length > 0 ? "No energy was measured in this month" : "This machine has no counter of energy that is known here";
}

/** A small amount, to three places that say something. */
export const amount = (value: number) => value.toLocaleString("en-GB", { maximumSignificantDigits: 3 });
