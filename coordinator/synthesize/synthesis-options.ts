/** The options that decide a synthetic log. */

/** How far adgroups deviate from what their attributes explain: s = 0, 0.5 and 1. */
export const WORLD_SETTINGS = ['homogeneous', 'moderate', 'strong'] as const;

/** Equal options give equal bytes of CSV. */
export interface WorldOptions {
  readonly rows: number;
  readonly setting: (typeof WORLD_SETTINGS)[number];
  /** Mean of the true click probabilities over all rows, in (0, 1). */
  readonly clickRate: number;
  readonly seed: number;
  /** By default one adgroup per 95 rows, at most a million. */
  readonly adgroups?: number | undefined;
  /** By default one user per 10 rows, at most a million. */
  readonly users?: number | undefined;
  /** Crowds of users, each with a level and tastes of its own; the log gets a column `crowd`. None by default. */
  readonly crowds?: number | undefined;
  /** How far crowds deviate, in logits: 0 for crowds without an effect. */
  readonly crowdDeviation?: number | undefined;
}

export const ROW_COUNT_MAX = 10_000_000_000;

const MULTIPLIERS: Readonly<Record<string, number>> = { '': 1, k: 1e3, m: 1e6, g: 1e9, b: 1e9 };

/**
 * `250`, `1_000_000`, `760k`, `10M`, `1.5M`, `2G` (or `2B`) as a whole number of rows; decimal multiples. Null for
 * anything else.
 */
export function parseRowCount(text: string): number | null {
  const match = /^(\d[\d_]*(?:\.\d+)?)([kmgb]?)$/i.exec(text.trim());
  if (match === null) return null;
  const [, digits = '', multiple = ''] = match;
  const exact = Number(digits.replaceAll('_', '')) * (MULTIPLIERS[multiple.toLowerCase()] ?? NaN);
  // 1.1 * 1e6 is 1100000.0000000001 in binary: only a real fraction of a row is refused.
  const rows = Math.round(exact);
  return Math.abs(exact - rows) <= 1e-6 && rows >= 1 && rows <= ROW_COUNT_MAX ? rows : null;
}
