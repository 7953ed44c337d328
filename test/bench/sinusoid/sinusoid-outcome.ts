/**
 * The outcome of one arm with one seed, and the file that keeps it, so that a stopped benchmark can
 * resume.
 */

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { SinusoidArm } from './sinusoid-arms.js';

/** JSON has no infinity: an unbounded error is null there. */
const SquaredErrorSchema = z
  .number()
  .nullable()
  .transform((error) => error ?? Infinity);

const SinusoidOutcomeSchema = z.strictObject({
  arm: z.string(),
  seed: z.int(),
  /** Completed outer steps when training diverged; null if it reached its end. */
  divergedAfterOuterSteps: z.int().nonnegative().nullable(),
  /**
   * Mean squared error of each test task's query rows, by number of inner steps; empty after a
   * divergence.
   */
  errors: z.array(z.array(SquaredErrorSchema)),
});
export type SinusoidOutcome = z.infer<typeof SinusoidOutcomeSchema>;

const KeptOutcomesSchema = z.strictObject({
  /** Commit of the tree that produced them. */
  commit: z.string(),
  outcomes: z.array(SinusoidOutcomeSchema),
});
type KeptOutcomes = z.infer<typeof KeptOutcomesSchema>;

/** One training, the unit that is run and kept. */
export interface SinusoidRun {
  readonly arm: SinusoidArm;
  readonly seed: number;
  readonly outerSteps: number;
}

export function isKept(folder: string, run: SinusoidRun): boolean {
  return existsSync(pathOf(folder, run));
}

/** Replaced as a whole, so that a stopped run leaves no partial file. */
export function keepOutcomes(
  folder: string,
  run: SinusoidRun,
  kept: z.input<typeof KeptOutcomesSchema>,
): void {
  mkdirSync(folder, { recursive: true });
  const path = pathOf(folder, run);
  writeFileSync(`${path}.part`, JSON.stringify(kept));
  renameSync(`${path}.part`, path);
}

export function keptOutcomes(folder: string, run: SinusoidRun): KeptOutcomes {
  return KeptOutcomesSchema.parse(JSON.parse(readFileSync(pathOf(folder, run), 'utf8')));
}

/** The name depends on all settings of the run, so an arm with other settings has another file. */
function pathOf(folder: string, run: SinusoidRun): string {
  const digest = createHash('sha256').update(JSON.stringify(run)).digest('hex').slice(0, 12);
  const name = run.arm.name.toLowerCase().replace(/[^a-z0-9]+/g, '-');
  return join(folder, `${name}-seed${run.seed}-${digest}.json`);
}
