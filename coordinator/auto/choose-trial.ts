/**
 * The choice of a search among the trials that reached the last rung. Losses are noisy where validation adgroups are few, so
 * the trial with the lowest one is held against the others adgroup by adgroup, and of those within one standard error
 * of it the one with the fewest parts is taken. Pure.
 *
 *   D  = sum_i d_i / sum_i n_i            d_i = loss_i - loss of the lowest_i, n_i the impressions of adgroup i
 *   SE = sqrt(m / (m - 1) * sum_i (d_i - D n_i)^2) / sum_i n_i     (the ratio estimator of m adgroups)
 */

import { at } from '../../shared/base/arrays.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import {
  rankedOnRung,
  scoreAt,
  type ComparedTrial,
  type SweepRecord,
  type TrialRecord,
} from '../sweep/sweep-record.js';

interface Difference {
  readonly difference: number;
  readonly standardError: number;
}

/** @param losses sums of losses by adgroup; `lowest` are those of the trial to compare with. */
export function pairedDifference(
  losses: readonly number[],
  lowest: readonly number[],
  impressions: readonly number[],
): Difference {
  const shown = impressions.reduce((sum, count) => sum + count, 0);
  const differences = losses.map((loss, index) => loss - at(lowest, index));
  const difference = differences.reduce((sum, each) => sum + each, 0) / shown;
  const squares = differences.reduce(
    (sum, each, index) => sum + (each - difference * at(impressions, index)) ** 2,
    0,
  );
  const adgroups = losses.length;
  const correction = adgroups > 1 ? adgroups / (adgroups - 1) : 1;
  return { difference, standardError: Math.sqrt(correction * squares) / shown };
}

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
    return losses === undefined ? [] : [{ trial, losses }];
  });
  const [lowest] = scored;
  if (lowest === undefined) throw new Error('a finished search has scores');
  const impressions = record.search?.impressions ?? [];
  const candidates = scored
    .map(({ trial, losses }) => ({
      trial,
      parts: partsOf(configOf(trial.name)),
      ...pairedDifference(losses, lowest.losses, impressions),
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
