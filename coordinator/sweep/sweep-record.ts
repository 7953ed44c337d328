/**
 * A sweep as data: its plan, every score so far, and at the end the best trial. It is written after each
 * score, so that a stopped sweep can continue. The table, the page and other programs read it.
 */

import { createHash } from 'node:crypto';
import { z } from 'zod';
import { canonicalJson } from '../../shared/base/canonical-json.js';
import { SCORING_ARMS, type ScoringArm } from '../../shared/config/arms.js';
import { configHash } from '../../shared/config/run-config.js';
import { QianmoError } from '../../shared/base/errors.js';
import { CellSchema } from '../scoring/evaluation-report.js';
import { ranked, type Rung } from './rungs.js';
import { TOWER_KINDS, type Trial } from './trials.js';

/** Raised when a field changes its meaning or is removed. */
const SWEEP_FORMAT_VERSION = 1;

const count = z.int().nonnegative();

const TrialScoreSchema = z.strictObject({
  rungIndex: count,
  /** Outer steps trained so far. */
  outerSteps: count,
  /** The score with the best cell; null if the trial diverged. */
  validationLogloss: z.number().nullable(),
  /** 0 inner steps mean no adaptation. */
  cell: CellSchema.nullable(),
  metaDigest: z.string().nullable(),
  /** In a search, the sum of losses of each validation adgroup. */
  adgroupLosses: z.array(z.number()).optional(),
  /**
   * The same of training adgroups, each by a model that was trained without its fold. Present for the trials that were
   * cross-fitted, which alone are compared then.
   */
  trainingLosses: z.array(z.number()).optional(),
  /** In a search, the time since the rung before; trials that run at once share it. */
  spentMs: z.number().nonnegative().optional(),
  /** The arm of the score; absent where the sweep names no arms. */
  arm: z.enum(SCORING_ARMS).optional(),
});

/** The distance of a trial's loss per impression from the lowest one, paired by adgroup. */
const ComparedSchema = z.strictObject({
  trial: z.string(),
  difference: z.number(),
  standardError: z.number(),
});
export type ComparedTrial = z.infer<typeof ComparedSchema>;

export const SweepRecordSchema = z.strictObject({
  formatVersion: z.literal(SWEEP_FORMAT_VERSION),
  sweep: z.string(),
  base: z.string(),
  /** The hash of everything that decides a score: trials, rungs, evaluation grid, store. */
  planHash: z.string(),
  storeDigest: z.string(),
  criterion: z.string(),
  /** The meaning of every `validationLogloss`: `logloss`, or `squared error` for values. */
  loss: z.string(),
  /** Settings tried for every trial at every score. */
  cellsPerTrial: count,
  rungs: z.array(z.strictObject({ outerSteps: count, trialCount: count })).min(1),
  /** The record of `qianmo auto`; absent in a sweep, whose trials are named one by one. */
  search: z
    .strictObject({
      budgetMinutes: z.number().positive().nullable(),
      /** By validation adgroup, in the order of `adgroupLosses`. */
      impressions: z.array(z.number()),
      /** Losses by training adgroup, in the order of `trainingLosses`; absent where validation adgroups are not few. */
      trainingImpressions: z.array(z.number()).optional(),
    })
    .optional(),
  trials: z.array(
    z.strictObject({
      name: z.string(),
      /** The trial's own run; its config lies in its output. */
      run: z.string(),
      output: z.string(),
      settings: z.record(z.string(), z.json()),
      configHash: z.string(),
      /** In a search, what the trial learns or keeps beside linear weights. */
      parts: count.optional(),
      /** In a search, that of a network that can be averaged with one of the other kind. */
      tower: z
        .strictObject({
          kind: z.enum(TOWER_KINDS),
          layerCount: count,
          inputFormula: z.string().nullable(),
        })
        .optional(),
      /** The trials of a search whose mean output this one has. It is tried at the end. */
      averageOf: z.array(z.string()).optional(),
      /** The trial of a search to whose output this one adds a shift of each adgroup's level. It is tried last. */
      shiftOf: z.string().optional(),
      scores: z.array(TrialScoreSchema),
    }),
  ),
  /** Null until the last rung is scored. */
  best: z
    .strictObject({
      trial: z.string(),
      validationLogloss: z.number(),
      cell: CellSchema,
      arm: z.enum(SCORING_ARMS).optional(),
      /** A run config that trains and evaluates this trial. */
      config: z.string(),
      /** The trials of the last rung, the safest first, of which the first that is good enough was chosen. */
      compared: z.array(ComparedSchema).optional(),
    })
    .nullable(),
});

export type TrialScore = z.infer<typeof TrialScoreSchema>;
export type SweepRecord = z.infer<typeof SweepRecordSchema>;
export type TrialRecord = SweepRecord['trials'][number];

export interface SweepPlan {
  readonly sweep: string;
  readonly base: string;
  readonly trials: readonly Trial[];
  readonly rungs: readonly Rung[];
  readonly storeDigest: string;
  /** The segment whose tasks give the score; null if there are no segments. */
  readonly segment: string | null;
  readonly criterion: string;
  readonly loss: string;
  readonly cellsPerTrial: number;
  /** The part of a search for the best config. */
  readonly search?: SweepRecord['search'];
  /** The arms that score trials, if the sweep names any. */
  readonly scoringArms?: readonly ScoringArm[];
}

export function emptyRecord(plan: SweepPlan): SweepRecord {
  const { sweep, base, trials, rungs, storeDigest, criterion, loss, cellsPerTrial, search } = plan;
  return {
    formatVersion: SWEEP_FORMAT_VERSION,
    ...{ sweep, base, storeDigest, criterion, loss, cellsPerTrial },
    planHash: planHashOf(plan),
    rungs: rungs.map((rung) => ({ ...rung })),
    ...(search === undefined ? {} : { search }),
    trials: trials.map(unscored),
    best: null,
  };
}

function unscored({
  name,
  settings,
  config,
  parts,
  tower,
  averageOf,
  shiftOf,
}: Trial): SweepRecord['trials'][number] {
  return {
    name,
    run: config.run,
    output: config.output,
    settings: z.record(z.string(), z.json()).parse(settings),
    configHash: configHash(config),
    ...(parts === undefined ? {} : { parts }),
    ...(tower === undefined ? {} : { tower }),
    ...(averageOf === undefined ? {} : { averageOf: [...averageOf] }),
    ...(shiftOf === undefined ? {} : { shiftOf }),
    scores: [],
  };
}

/** The record with more trials, which are not scored yet. */
export function withTrials(record: SweepRecord, added: readonly Trial[]): SweepRecord {
  return { ...record, trials: [...record.trials, ...added.map(unscored)] };
}

/** Whether a trial is made of others at the end of a search: an average, or one with a shift. */
export function isDerived({ averageOf, shiftOf }: TrialRecord): boolean {
  return averageOf !== undefined || shiftOf !== undefined;
}

function planHashOf(plan: SweepPlan): string {
  const { trials, rungs, storeDigest, criterion, segment, search } = plan;
  const trainingAdgroups = search?.trainingImpressions?.length;
  const deciding = canonicalJson({
    trials: trials.map(({ config }) => [config.run, config.output, configHash(config)]),
    evaluation: trials[0]?.config.evaluation,
    rungs,
    storeDigest,
    criterion,
    segment,
    ...(trainingAdgroups === undefined ? {} : { trainingAdgroups }),
  });
  return createHash('sha256').update(deciding).digest('hex');
}

export function sweepJson(record: SweepRecord): string {
  return JSON.stringify(SweepRecordSchema.parse(record), null, 2);
}

/** @throws QianmoError of kind `data` if the text is not the record of a sweep. */
export function parseSweepRecord(json: string, where: string): SweepRecord {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    value = null;
  }
  let parsed: z.ZodSafeParseResult<SweepRecord>;
  try {
    parsed = SweepRecordSchema.safeParse(value);
  } catch (cause) {
    // The stack ends before the nesting does.
    throw notARecord(where, 'values too deeply nested', cause);
  }
  if (parsed.success) return parsed.data;
  throw notARecord(where, `\n${z.prettifyError(parsed.error)}`);
}

function notARecord(where: string, found: string, cause?: unknown): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: 'this is not the record of a sweep',
    where,
    expected: `JSON written by qianmo sweep, format version ${SWEEP_FORMAT_VERSION}`,
    found,
    cure: 'restore it from a copy, or start again with --fresh',
    ...(cause === undefined ? {} : { cause }),
  });
}

export function scoreAt(trial: TrialRecord, rungIndex: number): TrialScore | undefined {
  return trial.scores.find((score) => score.rungIndex === rungIndex);
}

export function withScore(record: SweepRecord, name: string, score: TrialScore): SweepRecord {
  return {
    ...record,
    trials: record.trials.map((trial) =>
      trial.name === name ? { ...trial, scores: [...trial.scores, score] } : trial,
    ),
  };
}

/** The record as before the end of its search: no trial was made of others or cross-fitted. */
export function beforeEnd({ trials, ...rest }: SweepRecord): SweepRecord {
  const trained = trials.filter((trial) => !isDerived(trial));
  return {
    ...rest,
    trials: trained.map(({ scores, ...trial }) => ({
      ...trial,
      scores: scores.map(({ trainingLosses: _found, ...score }) => score),
    })),
  };
}

/** The record with the latest score of a trial changed. */
export function withLatestScore(
  record: SweepRecord,
  name: string,
  changed: (score: TrialScore) => TrialScore,
): SweepRecord {
  const latestChanged = ({ scores, ...trial }: TrialRecord): TrialRecord => ({
    ...trial,
    scores: scores.map((score, place) => (place === scores.length - 1 ? changed(score) : score)),
  });
  const trials = record.trials.map((trial) => (trial.name === name ? latestChanged(trial) : trial));
  return { ...record, trials };
}

/** The record with the losses of a cross-fitted trial, beside its latest score. */
export function withTrainingLosses(
  record: SweepRecord,
  name: string,
  trainingLosses: number[],
): SweepRecord {
  return withLatestScore(record, name, (score) => ({ ...score, trainingLosses }));
}

/** The trials scored on a rung, best first. */
export function rankedOnRung(record: SweepRecord, rungIndex: number): TrialRecord[] {
  const scored = record.trials.flatMap((trial) => {
    const score = scoreAt(trial, rungIndex);
    return score === undefined
      ? []
      : [{ name: trial.name, validationLogloss: score.validationLogloss, trial }];
  });
  return ranked(scored).map(({ trial }) => trial);
}

/** All trials. Those that reached a later rung come first; within a rung the better score decides. */
export function rankedTrials(record: SweepRecord): TrialRecord[] {
  const lastRung = (trial: TrialRecord): number => trial.scores.at(-1)?.rungIndex ?? -1;
  return record.rungs
    .map((_, index) => record.rungs.length - 1 - index)
    .flatMap((rungIndex) =>
      rankedOnRung(record, rungIndex).filter((trial) => lastRung(trial) === rungIndex),
    );
}
