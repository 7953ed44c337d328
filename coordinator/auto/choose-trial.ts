/** The choice of a search: the safest of the trials that reached the last rung. Pure. */

import type { RunConfig } from '../../shared/config/run-config.js';
import { safeTrialsOf } from '../sweep/safe-trials.js';
import type { ComparedTrial, SweepRecord, TrialRecord } from '../sweep/sweep-record.js';

/**
 * The number of things that a config learns or keeps beside weights of its inputs: weights of single values, a network, factors,
 * inputs of the support rows, a shift, and each personal block.
 */
export function partsOf({
  model,
  method,
  training,
}: Pick<RunConfig, 'model' | 'method' | 'training'>): number {
  const hasValues = training.trainable === undefined;
  const hasNetwork = model.hiddenWidths.length > 0;
  const hasFactors = model.kind !== 'logistic';
  const encodings = model.supportInputs?.targetEncodings.length ?? 0;
  const inputs = model.supportInputs === undefined ? 0 : encodings > 0 ? 2 : 1;
  const shift = 'levelShift' in method ? method.levelShift : false;
  const shifts = shift === false ? 0 : shift === true ? 1 : 2;
  const blocks = method.kind === 'global' ? 0 : model.personal.length;
  const learned = [hasValues, hasNetwork, hasFactors].filter(Boolean).length;
  return learned + inputs + shifts + blocks;
}

export interface ChosenTrial {
  readonly trial: TrialRecord;
  /** All trials of the last rung, those of fewer parts first. */
  readonly compared: readonly ComparedTrial[];
}

export function chooseTrial(record: SweepRecord): ChosenTrial {
  const found = safeTrialsOf(record, record.rungs.length - 1);
  if (found === null) throw new Error('a finished search has scores');
  return { trial: found.safest, compared: found.compared };
}
