/** The losses of a trial on training adgroups, each by a model that was trained without its fold. */

import { configWithoutFold, storeWithoutFold } from './cross-fitting.js';
import { validationScore, type ScoredRun } from '../evaluation/validation-score.js';
import type { PreparedRun } from '../plan/prepared-run.js';
import type { FlatRows } from '../scoring/held-out-rows.js';
import { withTrainingLosses, type SweepRecord } from '../sweep/sweep-record.js';
import { DivergenceError } from '../../shared/base/errors.js';
import type { MetaParameters } from '../../shared/models/initial-values.js';

interface CrossFitting {
  readonly work: { crossFit(name: string, signal: AbortSignal): Promise<number[]> };
  readonly save: (record: SweepRecord) => Promise<void>;
  readonly signal: AbortSignal;
}

/** The record with the losses of these trials on training adgroups. One that diverges without a fold has none. */
export async function withCrossFitting(
  finished: SweepRecord,
  names: readonly string[],
  { work, save, signal }: CrossFitting,
): Promise<SweepRecord> {
  let record = finished;
  for (const name of names) {
    try {
      record = withTrainingLosses(record, name, await work.crossFit(name, signal));
    } catch (error) {
      if (!(error instanceof DivergenceError)) throw error;
    }
    await save(record);
  }
  return record;
}

/** @returns the sum of losses of each adgroup, in the order of the folds */
export async function crossFittedLosses(
  { config, store, storeAddress, spec, ...queue }: ScoredRun,
  folds: readonly FlatRows[],
  trained: (run: PreparedRun) => Promise<MetaParameters>,
): Promise<number[]> {
  const losses: (readonly number[])[] = [];
  for (const [foldIndex, fold] of folds.entries()) {
    const run = {
      config: configWithoutFold(config, foldIndex),
      store: storeWithoutFold(store, fold.taskIndices),
      ...{ storeAddress, spec },
    };
    const parameters = await trained(run);
    const scored = await validationScore({ ...run, ...queue }, parameters, fold, {
      isAsServed: true,
    });
    losses.push([...scored.heldOutLosses]);
  }
  return losses.flat();
}
