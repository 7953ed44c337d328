/** Reads row counts as people write them on a command line. */

import { QianmoError } from '../../shared/base/errors.js';

export const ROW_COUNT_MAX = 10_000_000_000;

const MULTIPLIERS: Readonly<Record<string, number>> = { '': 1, k: 1e3, m: 1e6, g: 1e9, b: 1e9 };

/**
 * `250`, `1_000_000`, `760k`, `10M`, `1.5M`, `2G` (or `2B`) as a whole number of rows; decimal
 * multiples.
 * @throws QianmoError of kind `usage`
 */
export function parseRowCount(text: string): number {
  const match = /^(\d[\d_]*(?:\.\d+)?)([kmgb]?)$/i.exec(text.trim());
  const digits = match?.[1]?.replaceAll('_', '') ?? '';
  const multiplier = MULTIPLIERS[match?.[2]?.toLowerCase() ?? ''] ?? Number.NaN;
  const exact = digits === '' ? Number.NaN : Number(digits) * multiplier;
  // 1.1 * 1e6 is 1100000.0000000001 in binary: only a real fraction of a row is refused.
  const rows = Math.round(exact);
  if (Number.isNaN(exact) || Math.abs(exact - rows) > 1e-6 || rows < 1 || rows > ROW_COUNT_MAX)
    throw new QianmoError({
      kind: 'usage',
      what: 'the number of rows cannot be read',
      expected: `a whole number from 1 to ${ROW_COUNT_MAX}, as in 250, 760k, 10M or 2G`,
      found: JSON.stringify(text),
      cure: 'for example: --rows 10M',
    });
  return rows;
}
