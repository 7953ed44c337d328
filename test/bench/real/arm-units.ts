/**
 * The units of a cell: each is one command that fits one model, and gives the arms that this model has. What a unit
 * found is kept in its folder, so that a stopped bench resumes after the last unit.
 */

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { systemClock } from '../../../shared/base/clock.js';

const UnitArmSchema = z.strictObject({
  name: z.string(),
  /** Null if the unit does not say; such an arm cannot be chosen. */
  validationLogloss: z.number().nullable(),
  /** The choice of validation, for the reader. */
  settings: z.record(z.string(), z.unknown()),
  /** As the unit itself computed them; null if it did not. */
  claimed: z.strictObject({ logloss: z.number(), auc: z.number().nullable() }).nullable(),
});
export type UnitArm = z.infer<typeof UnitArmSchema>;

const KeptUnitSchema = z.strictObject({
  /** The settings that the result depends on. */
  wanted: z.string(),
  seconds: z.number(),
  arms: z.array(UnitArmSchema),
});
type KeptUnit = z.infer<typeof KeptUnitSchema>;

export interface Unit {
  readonly name: string;
  readonly side: 'peer' | 'product';
  /** For its result and the predictions of its arms. */
  readonly folder: string;
  /** Text that is equal if and only if the result may be used again. */
  readonly wanted: string;
  /** Writes the predictions of each arm to `predictionsPath`. */
  readonly run: () => Promise<UnitArm[]>;
}

export function predictionsPath({ folder }: Pick<Unit, 'folder'>, arm: string): string {
  return join(folder, `${arm.replaceAll(/[^a-z0-9-]+/g, '-')}.csv`);
}

export async function keptOrRun(unit: Unit): Promise<KeptUnit> {
  const path = join(unit.folder, `unit-${unit.name}.json`);
  if (existsSync(path)) {
    const kept = KeptUnitSchema.parse(JSON.parse(readFileSync(path, 'utf8')));
    const isThere = kept.arms.every(({ name }) => existsSync(predictionsPath(unit, name)));
    if (kept.wanted === unit.wanted && isThere) return kept;
  }
  const startMs = systemClock.monotonicMs();
  const arms = await unit.run();
  const seconds = Math.round((systemClock.monotonicMs() - startMs) / 1000);
  const found = { wanted: unit.wanted, seconds, arms };
  writeFileSync(path, `${JSON.stringify(found, null, 1)}\n`);
  return found;
}
