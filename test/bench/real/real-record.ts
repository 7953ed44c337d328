/** The figures of a cell in the record of the bench, `infra/results/real.json`. */

import { z } from 'zod';

const IntervalSchema = z.strictObject({ value: z.number(), low: z.number(), high: z.number() });

const RecordedArmSchema = z.strictObject({
  name: z.string(),
  side: z.enum(['peer', 'product']),
  validationLogloss: z.number().nullable(),
  logloss: z.number(),
  auc: z.number().nullable(),
  /** The time of the unit that the arm belongs to. */
  seconds: z.number(),
  settings: z.record(z.string(), z.unknown()),
});
export type RecordedArm = z.infer<typeof RecordedArmSchema>;

const DifferenceSchema = z.strictObject({
  /** Names of arms; the difference is the logloss of `arm` minus that of `from`. */
  arm: z.string(),
  from: z.string(),
  ...IntervalSchema.shape,
});

export const RecordedCellSchema = z.strictObject({
  set: z.string(),
  support: z.string(),
  seed: z.int(),
  commit: z.string(),
  date: z.string(),
  machine: z.string(),
  loadBefore: z.number(),
  /** The search of each peer, and of `auto` unless its trials are counted. */
  budgetMinutes: z.number(),
  /** Trials of `auto`, however long they take; null where minutes limit them. */
  trialsMax: z.int().nullable().default(null),
  taskCounts: z.strictObject({ train: z.int(), validation: z.int(), test: z.int() }),
  testRowCount: z.int(),
  /** Rows of tasks too small to be divided, which every side trains on; 0 in cells made before the product could. */
  trunkRowCount: z.int(),
  clickRate: z.number(),
  arms: z.array(RecordedArmSchema),
  /** The lowest validation logloss of each side. */
  chosenPeer: z.string().nullable(),
  chosenProduct: z.string().nullable(),
  /** The lowest test logloss of the peers: better than a choice can be. */
  bestPeer: z.string().nullable(),
  differences: z.strictObject({
    chosen: DifferenceSchema.nullable(),
    hindsight: DifferenceSchema.nullable(),
    /** The plain models of both sides. */
    plain: DifferenceSchema.nullable(),
  }),
});
export type RecordedCell = z.infer<typeof RecordedCellSchema>;
export type RecordedDifference = z.infer<typeof DifferenceSchema>;

export interface RealRecord {
  readonly cells: Readonly<Record<string, RecordedCell>>;
}
