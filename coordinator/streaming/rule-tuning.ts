/**
 * Chooses the settings of a baseline on the prior part of a stream, by the progressive logloss of each
 * candidate. Every rule has the same number of candidates. Two thirds are drawn over wide ranges, the
 * others around the best of these.
 */

import { at } from '../../shared/base/arrays.js';
import { randomStream, type RandomStream } from '../../shared/base/random.js';
import { baselineLearner, type BaselineSettings } from './baseline-rules.js';
import type { StreamRows } from '../../shared/streaming/stream-rows.js';
import { meanLogloss, NO_PAUSE, progressiveLogits, type Pause } from './progressive-validation.js';

interface TuningSettings {
  readonly seed: number;
  readonly candidateCount: number;
  readonly priorRowCount: number;
  /** Rows before this one are learned from, but they do not count. */
  readonly judgedFromRow: number;
  readonly batchRows: number;
}

export interface TunedRule {
  readonly settings: BaselineSettings;
  readonly logloss: number;
  readonly candidateCount: number;
}

export type BaselineKind = BaselineSettings['kind'];
export const BASELINE_KINDS: readonly BaselineKind[] = ['sgd', 'adagrad', 'ftrl', 'adam'];

/** One number to choose, uniformly over its range or over the logarithm of the range. */
interface Choice {
  readonly low: number;
  readonly high: number;
  readonly scale: 'linear' | 'log';
}

const CHOICES: Readonly<Record<BaselineKind, readonly Choice[]>> = {
  sgd: [log(3e-3, 3), linear(0, 0.5), log(1e-6, 1)],
  adagrad: [log(1e-2, 1), log(1e-3, 10), log(1e-6, 1)],
  ftrl: [log(1e-2, 1), log(1e-3, 10), log(1e-4, 1), log(1e-3, 30)],
  adam: [log(1e-4, 0.1), linear(0, 0.9), log(1e-3, 0.1), log(1e-8, 1), log(1e-6, 1)],
};

function log(low: number, high: number): Choice {
  return { low, high, scale: 'log' };
}

function linear(low: number, high: number): Choice {
  return { low, high, scale: 'linear' };
}

/** The chosen numbers in the order of CHOICES. */
function settingsOf(kind: BaselineKind, chosen: readonly number[]): BaselineSettings {
  const [a = 0, b = 0, c = 0, d = 0, e = 0] = chosen;
  switch (kind) {
    case 'sgd':
      return { kind, rate: a, ratePower: b, l2: c };
    case 'adagrad':
      return { kind, rate: a, initialSum: b, l2: c };
    case 'ftrl':
      return { kind, alpha: a, beta: b, l1: c, l2: d };
    case 'adam':
      return {
        kind,
        rate: a,
        firstMomentDecay: b,
        secondMomentDecay: 1 - c,
        epsilon: d,
        l2: e,
      };
  }
}

/** @param pause called between candidates; may throw to stop. */
export async function tuneBaseline(
  kind: BaselineKind,
  rows: StreamRows,
  tuning: TuningSettings,
  pause: Pause = NO_PAUSE,
): Promise<TunedRule> {
  const stream = randomStream(tuning.seed, 'rule-tuning', kind);
  const choices = CHOICES[kind];
  const wideCount = Math.ceil((2 * tuning.candidateCount) / 3);
  let best: { places: readonly number[]; logloss: number } | null = null;
  for (let candidate = 0; candidate < tuning.candidateCount; candidate += 1) {
    const near: readonly number[] | null = candidate < wideCount ? null : (best?.places ?? null);
    const places: readonly number[] = choices.map((_, choice) =>
      placeNear(near?.[choice] ?? null, stream),
    );
    const logloss = loglossAt(settingsOf(kind, chosenAt(choices, places)), rows, tuning);
    if (best === null || logloss < best.logloss) best = { places, logloss };
    await pause();
  }
  if (best === null) throw new Error('a rule is tuned with at least one candidate');
  const settings = settingsOf(kind, chosenAt(choices, best.places));
  return { settings, logloss: best.logloss, candidateCount: tuning.candidateCount };
}

/** The distance from the best within which later candidates are drawn, as a share of the range. */
const NEAR_SHARE = 0.15;

/** A place from 0 to 1 within a range. */
function placeNear(center: number | null, stream: RandomStream): number {
  if (center === null) return stream.uniform();
  return Math.min(1, Math.max(0, center + NEAR_SHARE * (2 * stream.uniform() - 1)));
}

function chosenAt(choices: readonly Choice[], places: readonly number[]): number[] {
  return choices.map(({ low, high, scale }, choice) => {
    const place = at(places, choice);
    return scale === 'log' ? low * (high / low) ** place : low + place * (high - low);
  });
}

function loglossAt(settings: BaselineSettings, rows: StreamRows, tuning: TuningSettings): number {
  const { judgedFromRow, priorRowCount, batchRows } = tuning;
  const learner = baselineLearner(settings, rows.featureCount);
  const logits = progressiveLogits(learner, rows, batchRows, { from: 0, to: priorRowCount });
  const judged = { from: judgedFromRow, to: priorRowCount };
  const logloss = meanLogloss(logits.subarray(judgedFromRow), rows, judged);
  return Number.isFinite(logloss) ? logloss : Infinity;
}
