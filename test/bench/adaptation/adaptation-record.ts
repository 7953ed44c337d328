/** The record of the bench, `infra/results/adaptation.json`: the figures of every cell. Cells may be of several commits; each names its own. */

import { z } from 'zod';
import { packageRoot } from '../../../infra/library/package-root.js';
import { readCells, writeCells, type CellRecord } from '../cell-record.js';
import { INPUTS, WAYS, type WayName } from './adaptation-arms.js';

const IntervalSchema = z.strictObject({ value: z.number(), low: z.number(), high: z.number() });
const WAY_NAMES = Object.keys(WAYS) as WayName[];

const ArmSchema = z.strictObject({
  inputs: z.enum(INPUTS),
  way: z.enum(WAY_NAMES),
  /** On the query rows of the test tasks, with what a bundle serves. */
  logloss: z.number(),
  validationLogloss: z.number().nullable(),
  seconds: z.number(),
  /** Minus the logloss without adaptation and with a shift of the level, with the same inputs; null where that arm was not run. */
  fromNothing: IntervalSchema.nullable(),
  fromShift: IntervalSchema.nullable(),
});
export type AdaptationArm = z.infer<typeof ArmSchema>;

const CellSchema = z.strictObject({
  set: z.string(),
  support: z.string(),
  seed: z.int(),
  commit: z.string(),
  date: z.string(),
  machine: z.string(),
  loadBefore: z.number(),
  taskCounts: z.strictObject({ train: z.int(), validation: z.int(), test: z.int() }),
  testRowCount: z.int(),
  arms: z.array(ArmSchema),
});
export type AdaptationCell = z.infer<typeof CellSchema>;

export type AdaptationRecord = CellRecord<AdaptationCell>;

const PATH = new URL('infra/results/adaptation.json', packageRoot);

export function readAdaptations(): AdaptationRecord {
  return readCells(PATH, CellSchema);
}

export function writeAdaptations(record: AdaptationRecord): void {
  writeCells(PATH, CellSchema, record);
}
