/**
 * A sweep as data: its plan, every score so far, and at the end the best trial. It is written after each
 * score, so that a stopped sweep can continue. The table, the page and other programs read it.
 */

import { createHash } from 'node:crypto';
import { z } from 'zod';
import { canonicalJson } from '../../shared/base/canonical-json.js';
import { QianmoError, errorOf } from '../../shared/base/errors.js';
import { configHash } from '../../shared/config/run-config.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { CellSchema, parseRecord } from '../scoring/evaluation-report.js';
import type { Trial } from './trials.js';

/** Raised when a field changes its meaning or is removed. */
const SWEEP_FORMAT_VERSION = 1;

const count = z.int().nonnegative();

const TrialScoreSchema = z.strictObject({
  rungIndex: count,
  /** Outer steps trained so far. */
  outerSteps: count,
  /** With the settings that the other folds of adgroups choose; null if the trial diverged. */
  validationLogloss: z.number().nullable(),
  /** 0 inner steps mean no adaptation. */
  cell: CellSchema.nullable(),
  metaDigest: z.string().nullable(),
});

const SweepRecordSchema = z.strictObject({
  formatVersion: z.literal(SWEEP_FORMAT_VERSION),
  /** A search is that of `qianmo auto`, whose trials the config does not name. */
  kind: z.enum(['sweep', 'search']),
  sweep: z.string(),
  base: z.string(),
  /** The hash of everything that decides a score: trials, rungs, evaluation grid, store. */
  planHash: z.string(),
  storeDigest: z.string(),
  criterion: z.string(),
  /** The meaning of every `validationLogloss`: `logloss`, or `squared error` for values. */
  loss: z.string(),
  rungs: z.array(z.strictObject({ outerSteps: count, trialCount: count })).min(1),
  trials: z.array(
    z.strictObject({
      name: z.string(),
      /** The trial's own run; its config lies in its output. */
      run: z.string(),
      output: z.string(),
      settings: z.record(z.string(), z.json()),
      configHash: z.string(),
      /** Its kind, which says what the settings of the adaptation are. */
      method: z.string().optional(),
      /** The trials of a search whose mean output this one has. It is tried at the end. */
      averageOf: z.array(z.string()).optional(),
      scores: z.array(TrialScoreSchema),
    }),
  ),
  /** Null until the last rung is scored. */
  best: z
    .strictObject({
      trial: z.string(),
      validationLogloss: z.number(),
      cell: CellSchema,
      /** A run config that trains and evaluates this trial. */
      config: z.string(),
    })
    .nullable(),
});

type TrialScore = z.infer<typeof TrialScoreSchema>;
export type SweepRecord = z.infer<typeof SweepRecordSchema>;
export type TrialRecord = SweepRecord['trials'][number];

export interface SweepPlan extends Pick<
  SweepRecord,
  'kind' | 'sweep' | 'base' | 'storeDigest' | 'criterion' | 'loss'
> {
  readonly trials: readonly Trial[];
  readonly rungs: SweepRecord['rungs'];
  /** The segment whose tasks give the score; null if there are no segments. */
  readonly segment: string | null;
}

export function emptyRecord({ segment, trials, ...plan }: SweepPlan): SweepRecord {
  const { rungs, storeDigest, criterion } = plan;
  const deciding = canonicalJson({
    trials: trials.map(({ config }) => [config.run, config.output, configHash(config)]),
    evaluation: trials[0]?.config.evaluation,
    ...{ rungs, storeDigest, criterion, segment },
  });
  return {
    formatVersion: SWEEP_FORMAT_VERSION,
    ...plan,
    planHash: createHash('sha256').update(deciding).digest('hex'),
    trials: trials.map(withoutScores),
    best: null,
  };
}

function withoutScores({ name, settings, config, averageOf }: Trial): TrialRecord {
  return {
    name,
    run: config.run,
    output: config.output,
    settings: z.record(z.string(), z.json()).parse(settings),
    configHash: configHash(config),
    method: config.method.kind,
    ...(averageOf === undefined ? {} : { averageOf: [...averageOf] }),
    scores: [],
  };
}

/** The record with one more trial, which is not scored yet. */
export function withTrial(record: SweepRecord, added: Trial): SweepRecord {
  return { ...record, trials: [...record.trials, withoutScores(added)] };
}

/** The record as before the end of a search: without averages. */
export function withoutAverages(record: SweepRecord): SweepRecord {
  return { ...record, trials: record.trials.filter(({ averageOf }) => averageOf === undefined) };
}

/** @throws QianmoError of kind `data` if the text is not the record of a sweep. */
export function parseSweepRecord(json: string, where: string): SweepRecord {
  return parseRecord(SweepRecordSchema, json, {
    ...{ where, what: 'this is not the record of a sweep' },
    cure: 'restore it from a copy, or start again with --fresh',
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

/** The trials scored on a rung, best first. Equal ones keep their order, and those that diverged come last. */
export function rankedOnRung({ trials }: SweepRecord, rungIndex: number): TrialRecord[] {
  const lossOf = (trial: TrialRecord): number =>
    scoreAt(trial, rungIndex)?.validationLogloss ?? Number.MAX_VALUE;
  return trials
    .filter((trial) => scoreAt(trial, rungIndex) !== undefined)
    .sort((a, b) => lossOf(a) - lossOf(b));
}

/** All trials with a score. Those that reached a later rung come first; within a rung the better score decides. */
export function rankedTrials(record: SweepRecord): TrialRecord[] {
  const lastRung = (trial: TrialRecord): number => trial.scores.at(-1)?.rungIndex ?? -1;
  return [...record.rungs.keys()]
    .reverse()
    .flatMap((rungIndex) =>
      rankedOnRung(record, rungIndex).filter((trial) => lastRung(trial) === rungIndex),
    );
}

interface SweepJournal {
  /** The record that existed on opening, or the empty record. */
  readonly record: SweepRecord;
  /** True if nothing of an earlier sweep may be used. */
  readonly isFresh: boolean;
  /** Calls must not overlap. @throws QianmoError `taken` if another coordinator took over. */
  save(record: SweepRecord): Promise<void>;
}

interface JournalStart {
  readonly resume: boolean;
  readonly fresh: boolean;
  /** Starts again where the sweep that exists is a different one. */
  readonly replacesOther?: boolean | undefined;
  readonly recordKey?: string;
}

/**
 * Keeps the record of a sweep in its output. It is replaced only while it is the version that this
 * coordinator knows, so that of two coordinators of one sweep, the later stops the earlier.
 *
 * @throws QianmoError `usage` if there is a sweep and neither resume nor fresh is set, or if it is a
 *   different sweep.
 */
export async function openSweepJournal(
  store: ObjectStore,
  empty: SweepRecord,
  start: JournalStart,
): Promise<SweepJournal> {
  const { recordKey = 'sweep.json' } = start;
  const where = `${store.address}/${recordKey}`;
  const object = await store.get(recordKey);
  const found =
    object === null || start.fresh
      ? null
      : parseSweepRecord(Buffer.from(object.bytes).toString('utf8'), where);
  if (found !== null && !start.resume)
    throw errorOf('usage', `the output contains a ${found.kind} that was started before`, {
      where,
      cure: 'give --resume to continue from it, --fresh to start again, or name another output',
    });
  const isOther = found !== null && found.planHash !== empty.planHash;
  if (isOther && start.replacesOther !== true)
    throw errorOf('usage', `the output contains a different ${found.kind}`, {
      where,
      found: differenceOf(found, empty),
      cure: 'restore the fields, name another output, or start again here with --fresh',
    });
  let etag = object?.etag ?? null;
  return {
    record: isOther ? empty : (found ?? empty),
    isFresh: start.fresh || isOther,
    async save(record) {
      const text = JSON.stringify(SweepRecordSchema.parse(record), null, 2);
      const written = await store.put(
        recordKey,
        Buffer.from(`${text}\n`),
        etag === null ? { kind: 'absent' } : { kind: 'unchanged', etag },
      );
      if (written === null)
        throw new QianmoError({
          kind: 'taken',
          what: 'another coordinator continued this sweep while this one was running',
          where,
          cure: 'run only one coordinator; this one has stopped without overwriting anything',
        });
      etag = written;
    },
  };
}

function differenceOf(found: SweepRecord, empty: SweepRecord): string {
  if (found.storeDigest !== empty.storeDigest) return 'a sweep of another task store';
  const other = found.trials.find(
    (trial, index) => trial.configHash !== empty.trials[index]?.configHash,
  );
  return other === undefined
    ? 'other rungs or evaluation settings'
    : `another config of trial ${other.name}`;
}
