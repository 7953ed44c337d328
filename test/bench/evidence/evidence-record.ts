/** The figures of a cell in the record of the bench, `infra/results/evidence.json`. */

import { z } from 'zod';

export const EvidenceCellSchema = z.strictObject({
  /** A real set, or a world by its click rate. */
  set: z.string(),
  kind: z.enum(['world', 'real']),
  seed: z.int(),
  /** Support rows of each test adgroup, which the curve takes the first of. */
  supportRows: z.int(),
  commit: z.string(),
  date: z.string(),
  machine: z.string(),
  loadBefore: z.number(),
  /** By what was run: prepares, trains and evaluates. */
  seconds: z.record(z.string(), z.number()),
  taskCounts: z.strictObject({ train: z.int(), validation: z.int(), test: z.int() }),
  testRowCount: z.int(),
  /** Clicks per impression of the test rows. */
  clickRate: z.number(),
  /** The loss of the true click probabilities; null where they are not known. */
  oracle: z.number().nullable(),
  points: z.array(
    z.strictObject({ supportRows: z.int(), losses: z.record(z.string(), z.number()) }),
  ),
});
export type EvidenceCell = z.infer<typeof EvidenceCellSchema>;

export interface EvidenceRecord {
  readonly cells: Readonly<Record<string, EvidenceCell>>;
}
