/**
 * The measurements, run by run: the JSON file next to the page. A run replaces only an earlier one
 * of the same model, setting and seed, so that each keeps its commit and its machine.
 */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { z } from 'zod';
import { BASE_MODEL_NAMES } from './base-models.js';

const SETTING_NAMES = ['own-default', 'published'] as const;

const RowMetricsSchema = z.strictObject({ auc: z.number(), logloss: z.number() });
const PhasesSchema = z.array(RowMetricsSchema).length(4);

/** One model, setting and seed: both arms, by phase. */
const MeasuredRunSchema = z.strictObject({
  model: z.enum(BASE_MODEL_NAMES),
  setting: z.enum(SETTING_NAMES),
  seed: z.int().nonnegative(),
  commit: z.string(),
  date: z.string(),
  machine: z.string(),
  base: PhasesSchema,
  metaEmbedding: PhasesSchema,
  /**
   * Outer steps of training per second, through the queue, on a machine that others may use too;
   * null for a run that was already finished.
   */
  baseStepsPerSecond: z.number().positive().nullable(),
  generatorStepsPerSecond: z.number().positive().nullable(),
});
export type MeasuredRun = z.infer<typeof MeasuredRunSchema>;

const RecordSchema = z.strictObject({ runs: z.array(MeasuredRunSchema) });

/** Returns no runs if nothing was recorded. */
export function readRecord(path: string): MeasuredRun[] {
  return existsSync(path) ? RecordSchema.parse(parsedFile(path)).runs : [];
}

export function writeRecord(path: string, runs: readonly MeasuredRun[]): void {
  writeFileSync(path, `${JSON.stringify({ runs }, null, 1)}\n`);
}

/** Returns the runs with `run` added or replaced, sorted by model, setting and seed. */
export function withRun(runs: readonly MeasuredRun[], run: MeasuredRun): MeasuredRun[] {
  const others = runs.filter((other) => nameOf(other) !== nameOf(run));
  const rank = ({ model, setting, seed }: MeasuredRun): number[] => [
    BASE_MODEL_NAMES.indexOf(model),
    SETTING_NAMES.indexOf(setting),
    seed,
  ];
  return [...others, run].sort((a, b) => {
    const other = rank(b);
    return (
      rank(a)
        .map((value, at) => value - (other[at] ?? 0))
        .find((by) => by !== 0) ?? 0
    );
  });
}

function nameOf({ model, setting, seed }: MeasuredRun): string {
  return `${model}/${setting}/${seed}`;
}

/** The result that a finished run left in its folder; null while it is in progress. */
export function readFinishedRun(path: string): MeasuredRun | null {
  return existsSync(path) ? MeasuredRunSchema.parse(parsedFile(path)) : null;
}

export function writeFinishedRun(path: string, run: MeasuredRun): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `${JSON.stringify(run, null, 1)}\n`);
}

function parsedFile(path: string): unknown {
  return JSON.parse(readFileSync(path, 'utf8'));
}
