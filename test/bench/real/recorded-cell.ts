/** A cell from its units: runs or resumes each, scores its arms on the test rows, and compares the two sides. */

import { type RecordedArm, type RecordedCell, type RecordedDifference } from './real-record.js';
import { at, float64At, numberAt } from '../../../shared/base/arrays.js';
import { softplus } from '../../../shared/base/logistic.js';
import { randomStream } from '../../../shared/base/random.js';
import type { Interval } from '../../../coordinator/scoring/evaluation-report.js';
import { auc, bootstrapIntervals, sumOf } from '../../../coordinator/scoring/metrics.js';
import type { BenchHeader } from '../bench-header.js';
import { keptOrRun, predictionsPath, type Unit } from './arm-units.js';
import { readPredictions, type WrittenCell, type TestRows } from './cell-files.js';

/** By how much a side's own figures may differ from the bench's, which come from probabilities in text. */
const AGREEMENT = 2e-4;
const PLAIN_PRODUCT = 'qianmo-plain-global';
/** The arm that a bundle of the chosen run serves: a run has one of them. */
const SERVED_ARMS: readonly string[] = ['qianmo-auto-global', 'qianmo-auto-meta-chosen'];
const PLAIN_PEER = 'deepfm';

interface CellTerms extends Pick<RecordedCell, 'budgetMinutes' | 'trialsMax'> {
  readonly header: BenchHeader;
  readonly set: string;
  readonly support: string;
  readonly seed: number;
}

export async function recordedCell(
  written: WrittenCell,
  units: readonly Unit[],
  { header, set, support, seed, ...length }: CellTerms,
): Promise<RecordedCell> {
  const { test, taskCounts, trunkRowCount } = written;
  const arms: RecordedArm[] = [];
  const scored = new Map<string, ScoredArm>();
  for (const unit of units) {
    process.stderr.write(`${set}, ${support}, seed ${seed}: ${unit.name}\n`);
    const { seconds, arms: found } = await keptOrRun(unit);
    for (const { name, validationLogloss, settings, claimed } of found) {
      const score = scoredArm(readPredictions(predictionsPath(unit, name), test), test);
      requireAgreement(name, score, claimed);
      scored.set(name, score);
      const { logloss, auc } = score;
      arms.push({ name, side: unit.side, validationLogloss, logloss, auc, seconds, settings });
    }
  }
  const chosenPeer = chosenPeerOf(arms);
  const chosenProduct = arms.find(({ name }) => SERVED_ARMS.includes(name))?.name ?? null;
  const peers = arms.filter(({ side }) => side === 'peer');
  const bestPeer = minimumBy(peers, ({ logloss }) => logloss)?.name ?? null;
  const difference = (arm: string | null, from: string | null): RecordedDifference | null => {
    const [one, other] = [scored.get(arm ?? ''), scored.get(from ?? '')];
    if (arm === null || from === null || one === undefined || other === undefined) return null;
    return { arm, from, ...pairedDifference(one, other, test, seed) };
  };
  return {
    ...{ set, support, seed, ...length, ...header, taskCounts, trunkRowCount },
    testRowCount: test.rows.length,
    clickRate: sumOf(test.clicks) / sumOf(test.impressions),
    ...{ arms, chosenPeer, chosenProduct, bestPeer },
    differences: {
      chosen: difference(chosenProduct, chosenPeer),
      hindsight: difference(chosenProduct, bestPeer),
      plain: difference(PLAIN_PRODUCT, PLAIN_PEER),
    },
  };
}

function chosenPeerOf(arms: readonly RecordedArm[]): string | null {
  const choosable = arms.filter(
    ({ side, validationLogloss }) => side === 'peer' && validationLogloss !== null,
  );
  return minimumBy(choosable, ({ validationLogloss }) => validationLogloss ?? NaN)?.name ?? null;
}

/** @throws Error if the two sides do not mean the same rows or the same metric. */
export function requireAgreement(
  name: string,
  found: Pick<ScoredArm, 'logloss' | 'auc'>,
  claimed: { readonly logloss: number; readonly auc: number | null } | null,
): void {
  if (claimed === null) return;
  const pairs = [
    ['logloss', found.logloss, claimed.logloss],
    ['auc', found.auc ?? NaN, claimed.auc ?? NaN],
  ] as const;
  for (const [metric, ours, theirs] of pairs)
    if (Math.abs(ours - theirs) > AGREEMENT)
      throw new Error(`${name} says ${metric} ${theirs}, and its predictions give ${ours}`);
}

/** The record's cells whose arms come from both sides. */
export function isCompared({ differences }: RecordedCell): boolean {
  return differences.chosen !== null;
}

export function armNamed(cell: RecordedCell, name: string): RecordedArm {
  return at(
    cell.arms.filter((arm) => arm.name === name),
    0,
  );
}

const SAMPLES = 2000;
const CONFIDENCE = 0.95;

interface ScoredArm {
  /** The mean over impressions, in nats. */
  readonly logloss: number;
  readonly auc: number | null;
  /** By task: the sum over its rows. */
  readonly taskLosses: Float64Array;
}

export function scoredArm(logits: Float64Array, test: TestRows): ScoredArm {
  const taskLosses = new Float64Array(test.taskCount);
  for (const [row, z] of logits.entries()) {
    const task = at(test.tasks, row);
    const loss = numberAt(test.impressions, row) * softplus(z) - numberAt(test.clicks, row) * z;
    taskLosses[task] = float64At(taskLosses, task) + loss;
  }
  return {
    logloss: sumOf(taskLosses) / sumOf(test.impressions),
    auc: auc(logits, test),
    taskLosses,
  };
}

/** The logloss of one arm minus that of the other; below 0, the one is better. */
export function pairedDifference(
  one: ScoredArm,
  other: ScoredArm,
  test: TestRows,
  seed: number,
): Interval {
  const shown = new Float64Array(test.taskCount);
  for (const [row, task] of test.tasks.entries())
    shown[task] = float64At(shown, task) + numberAt(test.impressions, row);
  const [interval] = bootstrapIntervals(
    [one.taskLosses, other.taskLosses, shown],
    [([a = NaN, b = NaN, impressions = NaN]) => (a - b) / impressions],
    { samples: SAMPLES, confidence: CONFIDENCE, stream: randomStream(seed, 'real bench') },
  );
  if (interval === undefined || interval === null) throw new Error('the arms have no finite loss');
  return interval;
}

/** The first of the items with the lowest value. */
function minimumBy<Item>(
  items: readonly Item[],
  valueOf: (item: Item) => number,
): Item | undefined {
  return items.reduce<Item | undefined>(
    (best, item) => (best === undefined || valueOf(item) < valueOf(best) ? item : best),
    undefined,
  );
}
