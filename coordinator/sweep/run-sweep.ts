/**
 * The loop of a sweep. On each rung the remaining trials are trained further and scored on the validation
 * adgroups, and the best continue. Training and scoring are passed in. Scores do not depend on how many
 * trials run at once.
 */

import { DivergenceError, isInterruption, QianmoError } from '../../shared/base/errors.js';
import { type RunEventSink, warningEvent } from '../../shared/events/run-events.js';
import { comparableTrials, indistinctTrials, pairOfKinds, trialsOnRung } from './safe-trials.js';
import {
  rankedOnRung,
  scoreAt,
  withScore,
  type SweepRecord,
  type TrialRecord,
  type TrialScore,
} from './sweep-record.js';

export type FoundScore = Omit<TrialScore, 'rungIndex' | 'outerSteps' | 'validationLogloss'> & {
  readonly validationLogloss: number;
  /** The outer steps of the trial, if it ended before the rung. */
  readonly outerSteps?: number;
};

export interface SweepOptions {
  /** An empty record, or the record of this sweep when it was stopped. */
  readonly record: SweepRecord;
  readonly concurrentTrials: number;
  /** Checkpoints of this many best trials are kept at the end. */
  readonly trialsKept: number;
  /**
   * Trains the trial from its latest checkpoint to this outer step and scores it there. A trial whose
   * checkpoint is beyond this step is trained again from the start.
   *
   * @throws DivergenceError if the trial can never have a score.
   */
  readonly runTrial: (
    name: string,
    stopAtOuterStep: number,
    signal: AbortSignal,
  ) => Promise<FoundScore>;
  /** Whether there is time for one more trial on the rung, beside those that run; there always is if absent. */
  readonly mayBegin?: (record: SweepRecord, rungIndex: number, runningCount: number) => boolean;
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
  const { rungs } = options.record;
  const progress = new SweepProgress(options);
  for (const rungIndex of rungs.keys()) {
    const pending = trialsOnRung(progress.record, rungIndex)
      .filter((trial) => scoreAt(trial, rungIndex) === undefined)
      .map(({ name }) => name);
    await progress.discardLosers(rungIndex);
    let runningCount = 0;
    await eachOf(pending, options.concurrentTrials, options.signal, async (name, signal) => {
      if (options.mayBegin?.(progress.record, rungIndex, runningCount) === false) return;
      runningCount += 1;
      const score = await scoreOf(name, rungIndex, options, signal);
      await progress.add(name, score);
      runningCount -= 1;
    });
    demandAScore(progress.record, rungIndex);
  }
  if (options.record.search !== undefined) await progress.discardLosers(rungs.length);
  return progress.record;
}

/** The growing record. Scores of trials that end at the same time are saved one after the other. */
class SweepProgress {
  record: SweepRecord;
  readonly #options: SweepOptions;
  readonly #discarded = new Set<string>();
  #saved: Promise<void> = Promise.resolve();

  constructor(options: SweepOptions) {
    this.#options = options;
    this.record = options.record;
  }

  async add(name: string, score: TrialScore): Promise<void> {
    const { save, sink } = this.#options;
    const saving = this.#saved.then(async () => {
      this.record = withScore(this.record, name, score);
      await save(this.record);
    });
    this.#saved = saving.catch(() => undefined);
    await saving;
    const { outerSteps: outerStep, validationLogloss: validationLoss } = score;
    const { loss } = this.record;
    sink({ kind: 'trial-scored', trial: name, outerStep, loss, validationLoss });
    if (this.record.search === undefined) await this.discardLosers(score.rungIndex);
    else if (validationLoss === null) await this.#discard(name);
  }

  /**
   * Removes the checkpoints of trials that can no longer be among those that continue. In a search, any trial that has
   * not diverged can until the rung before is done: it may turn out to be the safest.
   *
   * @param rungIndex beyond the last rung of a search, what counts is whether they can be chosen or averaged.
   */
  async discardLosers(rungIndex: number): Promise<void> {
    for (const { name } of this.#losers(rungIndex)) await this.#discard(name);
  }

  async #discard(name: string): Promise<void> {
    if (this.#discarded.has(name)) return;
    this.#discarded.add(name);
    await this.#options.discard(name);
  }

  #losers(rungIndex: number): TrialRecord[] {
    if (this.record.search !== undefined) {
      const left = leftInSearch(this.record, rungIndex);
      return this.record.trials.filter(
        (trial) => trial.scores.length > 0 && !left.some(({ name }) => name === trial.name),
      );
    }
    const keptCount = this.record.rungs[rungIndex + 1]?.trialCount ?? this.#options.trialsKept;
    return rankedOnRung(this.record, rungIndex).filter(
      (trial, place) => place >= keptCount || scoreAt(trial, rungIndex)?.validationLogloss === null,
    );
  }
}

/**
 * After the last rung, the trials that validation cannot tell from the lowest loss, and the networks of two kinds that have an
 * average: the others are further from it than the choice allows, and no average is made of them. Whatever is made of these
 * trials and has a still lower loss is chosen itself.
 */
function leftInSearch(record: SweepRecord, rungIndex: number): TrialRecord[] {
  if (rungIndex < record.rungs.length) return trialsOnRung(record, rungIndex);
  const pair = pairOfKinds(comparableTrials(record, rungIndex - 1));
  return [...indistinctTrials(record, rungIndex - 1), ...pair];
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

function demandAScore(record: SweepRecord, rungIndex: number): void {
  const scored = rankedOnRung(record, rungIndex);
  if (scored.some((trial) => scoreAt(trial, rungIndex)?.validationLogloss !== null)) return;
  throw new DivergenceError({
    kind: 'failed',
    what: 'every trial of the sweep diverges',
    where: record.sweep,
    expected: 'a finite validation logloss of at least one trial',
    found: `${scored.length} trials, none of them finite`,
    cure: 'sweep smaller inner rates or smaller training.optimizer.rate',
  });
}

/**
 * Runs at most `limit` at once. A failure stops the others and waits for them. The first one is thrown
 * that is more than an interruption.
 */
async function eachOf(
  names: readonly string[],
  limit: number,
  outer: AbortSignal,
  work: (name: string, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const stop = new AbortController();
  const signal = AbortSignal.any([outer, stop.signal]);
  const waiting = [...names];
  const failures: unknown[] = [];
  const lane = async (): Promise<void> => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      try {
        if (signal.aborted) throw new QianmoError({ kind: 'interrupted', what: 'stopped' });
        await work(name, signal);
      } catch (error) {
        failures.push(error);
        waiting.length = 0;
        stop.abort();
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, names.length) }, lane));
  if (failures.length > 0) throw failures.find((error) => !isInterruption(error)) ?? failures[0];
}
