/**
 * The loop of a sweep. On each rung the remaining trials are trained further and scored on the validation
 * adgroups, and the best continue. Training and scoring are passed in. Scores do not depend on how many
 * trials run at once.
 */

import { DivergenceError, isInterruption, QianmoError, errorOf } from '../../shared/base/errors.js';
import { type RunEventSink, warningEvent } from '../../shared/events/run-events.js';
import type { SweepConfig } from '../../shared/config/sweep-config.js';
import {
  rankedOnRung,
  scoreAt,
  withScore,
  type SweepRecord,
  type TrialRecord,
} from './sweep-record.js';

type TrialScore = TrialRecord['scores'][number];

/** Outer steps at the end of the rung, including those of earlier rungs, and the trials that reach it. */
type Rung = SweepRecord['rungs'][number];

/**
 * The rungs of a sweep. With successive halving (Jamieson and Talwalkar, AISTATS 2016, algorithm 1; with a
 * factor eta as in Li et al., JMLR 2018), all trials are trained briefly, the best are trained further,
 * and so on. Each rung is eta times as long as the one before.
 *
 *   K = rungCount - 1,  trials on rung k: floor(n / eta^k), at least 1
 *   outer steps of a trial by the end of rung k: ceil(R / eta^(K - k)),  R = training.outerSteps
 *
 * Where trials differ in their outer steps, R is that of the longest, and a trial that ends before a rung does
 * is scored there as it ended: on each rung all trials have had the same steps or all that they want.
 *
 * @throws QianmoError of kind `usage` if the run is too short for this number of rungs.
 */
export function rungsOf(
  trialCount: number,
  outerSteps: number,
  halving: SweepConfig['halving'],
  where: string,
): Rung[] {
  if (halving === undefined) return [{ outerSteps, trialCount }];
  const { eta } = halving;
  const rungCount = halving.rungs ?? rungsToOne(trialCount, eta);
  const rungs = Array.from({ length: rungCount }, (_, rung): Rung => ({
    outerSteps: Math.ceil(outerSteps / eta ** (rungCount - 1 - rung)),
    trialCount: Math.max(1, Math.floor(trialCount / eta ** rung)),
  }));
  if (rungs.every((rung, index) => rung.outerSteps > (rungs[index - 1]?.outerSteps ?? 0)))
    return rungs;
  throw errorOf('usage', 'the run is too short for so many rungs', {
    where: `${where}, halving`,
    expected: `more outer steps on each of ${rungCount} rungs than on the one before`,
    found: `rungs that end after ${rungs.map((rung) => rung.outerSteps).join(', ')} outer steps`,
    cure: 'raise training.outerSteps of the base config, or set fewer rungs or a smaller eta',
  });
}

/** The number of rungs until one trial is left, at least two. */
function rungsToOne(trialCount: number, eta: number): number {
  let rungCount = 1;
  for (let left = trialCount; left >= eta; left = Math.floor(left / eta)) rungCount += 1;
  return Math.max(2, rungCount);
}

/** The outer steps of the whole sweep if no trial fails. */
export function outerStepTotal(rungs: readonly Rung[]): number {
  return rungs.reduce(
    (sum, { outerSteps, trialCount }, index) =>
      sum + trialCount * (outerSteps - (rungs[index - 1]?.outerSteps ?? 0)),
    0,
  );
}

interface FoundScore extends Omit<TrialScore, 'rungIndex' | 'outerSteps' | 'validationLogloss'> {
  readonly validationLogloss: number;
  /** The outer steps of the trial, if it ended before the rung. */
  readonly outerSteps?: number;
}

interface SweepOptions {
  /** An empty record, or the record of this sweep when it was stopped. */
  readonly record: SweepRecord;
  readonly concurrentTrials: number;
  /** A training that is no trial: it takes a lane after the trials of the first rung, and its score is dropped. */
  readonly companion?: string | undefined;
  /** Checkpoints of this many best trials are kept at the end. */
  readonly trialsKept: number;
  /**
   * Trains the trial from its latest checkpoint to this outer step and scores it there.
   *
   * @throws DivergenceError if the trial can never have a score.
   */
  readonly runTrial: (
    name: string,
    stopAtOuterStep: number,
    signal: AbortSignal,
  ) => Promise<FoundScore>;
  /** Removes the checkpoints of the trial. It is called again if it was interrupted. */
  readonly discard: (name: string) => Promise<void>;
  readonly save: (record: SweepRecord) => Promise<void>;
  readonly sink: RunEventSink;
  readonly signal: AbortSignal;
}

/**
 * @throws DivergenceError if no trial of a rung has a score; whatever training, scoring and saving throw,
 *   after the other running trials have stopped.
 */
export async function runSweep(options: SweepOptions): Promise<SweepRecord> {
  const { save, sink, concurrentTrials, companion, signal: outer } = options;
  let { record } = options;
  let saved: Promise<void> = Promise.resolve();
  const discarded = new Set<string>();
  const discardLosers = async (rungIndex: number): Promise<void> => {
    const keptCount = record.rungs[rungIndex + 1]?.trialCount ?? options.trialsKept;
    for (const [place, trial] of rankedOnRung(record, rungIndex).entries()) {
      const isLost = place >= keptCount || scoreAt(trial, rungIndex)?.validationLogloss === null;
      if (!isLost || discarded.has(trial.name)) continue;
      discarded.add(trial.name);
      await options.discard(trial.name);
    }
  };
  for (const rungIndex of record.rungs.keys()) {
    const pending = trialsOnRung(record, rungIndex).filter(
      (trial) => scoreAt(trial, rungIndex) === undefined,
    );
    await discardLosers(rungIndex);
    const names = pending.map(({ name }) => name);
    if (companion !== undefined && rungIndex === 0) names.push(companion);
    await eachOf(names, concurrentTrials, outer, async (name, signal) => {
      const score = await scoreOf(name, rungIndex, options, signal);
      if (name === companion) return;
      // Scores of trials that end at the same time are saved one after the other.
      const saving = saved.then(async () => {
        record = withScore(record, name, score);
        await save(record);
      });
      saved = saving.catch(() => undefined);
      await saving;
      const { outerSteps: outerStep, validationLogloss: validationLoss } = score;
      sink({
        kind: 'trial-scored',
        ...{ trial: name, outerStep, loss: record.loss, validationLoss },
      });
      await discardLosers(rungIndex);
    });
    const scored = rankedOnRung(record, rungIndex);
    if (scored.every((trial) => scoreAt(trial, rungIndex)?.validationLogloss === null))
      throw new DivergenceError({
        kind: 'failed',
        what: 'every trial of the sweep diverges',
        where: record.sweep,
        expected: 'a finite validation logloss of at least one trial',
        found: `${scored.length} trials, none of them finite`,
        cure: 'sweep smaller inner rates or smaller training.optimizer.rate',
      });
  }
  return record;
}

/** All trials on the first rung, and on the others the best of the rung before, best first. */
function trialsOnRung(record: SweepRecord, rungIndex: number): TrialRecord[] {
  if (rungIndex === 0) return record.trials;
  return rankedOnRung(record, rungIndex - 1)
    .filter((trial) => scoreAt(trial, rungIndex - 1)?.validationLogloss !== null)
    .slice(0, record.rungs[rungIndex]?.trialCount);
}

async function scoreOf(
  name: string,
  rungIndex: number,
  { record, runTrial, sink }: SweepOptions,
  signal: AbortSignal,
): Promise<TrialScore> {
  const outerSteps = record.rungs[rungIndex]?.outerSteps ?? 0;
  try {
    return { rungIndex, outerSteps, ...(await runTrial(name, outerSteps, signal)) };
  } catch (error) {
    if (!(error instanceof DivergenceError)) throw error;
    sink(warningEvent('trial-diverged', `${name} diverges and is given up: ${error.message}`));
    return { rungIndex, outerSteps, validationLogloss: null, cell: null, metaDigest: null };
  }
}

/**
 * Runs at most `limit` at once. A failure stops the others and waits for them. The first one is thrown
 * that is more than an interruption.
 */
async function eachOf<Item>(
  items: readonly Item[],
  limit: number,
  outer: AbortSignal,
  work: (item: Item, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const stop = new AbortController();
  const signal = AbortSignal.any([outer, stop.signal]);
  const waiting = [...items];
  const failures: unknown[] = [];
  const lane = async (): Promise<void> => {
    for (let item = waiting.shift(); item !== undefined; item = waiting.shift()) {
      try {
        if (signal.aborted) throw new QianmoError({ kind: 'interrupted', what: 'stopped' });
        await work(item, signal);
      } catch (error) {
        failures.push(error);
        waiting.length = 0;
        stop.abort();
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, lane));
  if (failures.length > 0) throw failures.find((error) => !isInterruption(error)) ?? failures[0];
}
