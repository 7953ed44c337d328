/**
 * The choice of a search among the trials that reached the last rung. Losses are noisy where validation adgroups are few, so
 * the trial with the lowest one is held against the others adgroup by adgroup, and of those within one standard error
 * of it the one with the fewest parts is taken. Pure.
 */

import type { RunConfig } from '../../shared/config/run-config.js';
import { meanLoss, pairedDifference, type EntryLosses } from '../scoring/validated-losses.js';
import {
  rankedOnRung,
  scoreAt,
  type ComparedTrial,
  type SweepRecord,
  type TrialRecord,
} from '../sweep/sweep-record.js';

/**
 * The number of things that a config learns or keeps beside linear weights: a network, factors, inputs of the
 * support rows, a shift, and each personal block.
 */
export function partsOf({ model, method }: Pick<RunConfig, 'model' | 'method'>): number {
  const hasNetwork = model.hiddenWidths.length > 0;
  const hasFactors = model.kind !== 'logistic';
  const encodings = model.supportInputs?.targetEncodings.length ?? 0;
  const inputs = model.supportInputs === undefined ? 0 : encodings > 0 ? 2 : 1;
  const shift = 'levelShift' in method ? method.levelShift : false;
  const shifts = shift === false ? 0 : shift === true ? 1 : 2;
  const blocks = method.kind === 'global' ? 0 : model.personal.length;
  return Number(hasNetwork) + Number(hasFactors) + inputs + shifts + blocks;
}

export interface ChosenTrial {
  readonly trial: TrialRecord;
  /** All trials of the last rung, those of fewer parts first. */
  readonly compared: readonly ComparedTrial[];
}

/** @param configOf the config of a trial by its name */
export function chooseTrial(
  record: SweepRecord,
  configOf: (name: string) => RunConfig,
): ChosenTrial {
  const rungIndex = record.rungs.length - 1;
  const scored = rankedOnRung(record, rungIndex).flatMap((trial) => {
    const losses = scoreAt(trial, rungIndex)?.adgroupLosses;
    return losses === undefined ? [] : [{ trial, losses: Float64Array.from(losses) }];
  });
  const [lowest] = scored;
  if (lowest === undefined) throw new Error('a finished search has scores');
  const aboveLowest = differenceTo(lowest.losses, record.search?.impressions ?? []);
  const candidates = scored
    .map(({ trial, losses }) => ({
      trial,
      parts: partsOf(configOf(trial.name)),
      ...aboveLowest(losses),
    }))
    // A stable sort: of equally many parts, the better loss stays first.
    .sort((a, b) => a.parts - b.parts);
  const chosen = candidates.find(({ difference, standardError }) => difference <= standardError);
  if (chosen === undefined) throw new Error('the lowest loss is within any error of itself');
  return {
    trial: chosen.trial,
    compared: candidates.map(({ trial, difference, standardError }) => ({
      ...{ trial: trial.name, difference, standardError },
    })),
  };
}

/** A single adgroup says nothing of the error: only an equal loss is then as good as the lowest. */
function differenceTo(
  lowest: EntryLosses,
  shown: readonly number[],
): (losses: EntryLosses) => { readonly difference: number; readonly standardError: number } {
  const impressions = Float64Array.from(shown);
  const entries = { adgroupCount: shown.length, drawCount: 1, impressions, supportRowCounts: [] };
  return (losses) => {
    const found = pairedDifference(losses, lowest, entries);
    const difference = found?.value ?? meanLoss(losses, entries) - meanLoss(lowest, entries);
    return { difference, standardError: found?.standardError ?? 0 };
  };
}
