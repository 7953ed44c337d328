/**
 * Compares evaluated runs on the same test rows: they are scored as the arms of one evaluation, with differences from
 * the first of them. Pure, given the seed.
 */

import { z } from 'zod';
import { at, spanAt } from '../../shared/base/arrays.js';
import { type QianmoError, errorOf } from '../../shared/base/errors.js';
import { shownArm } from '../../shared/config/arms.js';
import { TaskLabelSchema } from '../../shared/tasks/task-label.js';
import {
  CalibrationCurveSchema,
  CellSchema,
  parseRecord,
  SliceSchema,
  type EvaluationReport,
  fileOfSegment,
  parseReport,
  REPORT_FILE,
} from './evaluation-report.js';
import { calibrationCurvesOf, scoreSlices } from './score-arms.js';
import { type TestLogits, decodeTestLogits, TEST_LOGITS_KEY } from './test-logits.js';
import { nearestName } from '../../shared/names/nearest-name.js';
import { verifiedBlob } from '../../shared/storage/blob-store.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';

/** Raised when a field changes its meaning or is removed. */
const COMPARISON_FORMAT_VERSION = 1;

const count = z.int().nonnegative();

/** A comparison as data. The table, the page and other programs read it. The format is versioned. */
export const ComparisonReportSchema = z.strictObject({
  formatVersion: z.literal(COMPARISON_FORMAT_VERSION),
  /** The label of the rows; clicks if absent. For values, `logloss` is a squared error. */
  label: TaskLabelSchema.optional(),
  confidence: z.number(),
  bootstrapSamples: count,
  calibrationBins: count,
  /** The others are compared with the first. */
  runs: z
    .array(
      z.strictObject({
        /** `RUN:ARM`, with a number if that is not unique. */
        label: z.string(),
        run: z.string(),
        arm: z.string(),
        /** The cell chosen for the arm on validation adgroups; null if there was no choice. */
        cell: CellSchema.nullable(),
        validationLogloss: z.number().nullable(),
        method: z.string(),
        model: z.string(),
        personalBlocks: z.array(z.string()),
        seed: count,
        address: z.string(),
        configHash: z.string(),
        metaDigest: z.string(),
        storeDigest: z.string(),
      }),
    )
    .min(2),
  /** All test adgroups first, then the size buckets that are not empty, ascending. An arm is the label of a run. */
  slices: z.array(SliceSchema).min(1),
  calibrationCurves: z.array(CalibrationCurveSchema),
});

export type ComparisonReport = z.infer<typeof ComparisonReportSchema>;

/** @throws QianmoError of kind `data` if the text is not a comparison of this version. */
export function parseComparison(json: string, where: string): ComparisonReport {
  return parseRecord(ComparisonReportSchema, json, {
    ...{ where, what: 'this is not a comparison of runs', cure: 'compare the runs again' },
  });
}

interface ChosenRun {
  readonly evaluated: EvaluatedRun;
  /** Null stands for the arm that the run was made for. */
  readonly arm: string | null;
}

/** The page has this many colours. */
const COMPARED_RUNS_MAX = 8;

/**
 * @param sizeBucketEdges in support rows; by default those of the first run.
 * @throws QianmoError `usage` when an arm is not there or the runs were not evaluated on the same
 *   test rows.
 */
export function compareRuns(
  chosen: readonly ChosenRun[],
  sizeBucketEdges?: readonly number[],
): ComparisonReport {
  const [first] = chosen;
  if (first === undefined || chosen.length < 2 || chosen.length > COMPARED_RUNS_MAX)
    throw errorOf('usage', 'a comparison needs at least two runs', {
      expected: `2 to ${COMPARED_RUNS_MAX} runs or arms of runs`,
      found: `${chosen.length}`,
      cure: 'name the runs one after the other: qianmo compare runs/a runs/b runs/b:finetuned',
    });
  const { report, logits } = first.evaluated;
  const { confidence, bootstrapSamples, calibrationBins } = report;
  const label = report.label === undefined ? {} : { label: report.label };
  for (const { evaluated } of chosen.slice(1)) assertSameRows(first.evaluated, evaluated);
  const arms = chosen.map(({ evaluated, arm }) => armOf(evaluated, arm));
  const labels = labelsOf(
    chosen.map(({ evaluated }, index) => `${evaluated.report.run.run}:${at(arms, index)}`),
  );
  const scored = {
    rows: { ...logits.rows, ...label },
    supportRowCounts: logits.supportRowCounts,
    logits: new Map(
      chosen.map(({ evaluated }, index) => [
        at(labels, index),
        evaluated.logits.logits.get(at(arms, index)) ?? new Float32Array(),
      ]),
    ),
  };
  return {
    formatVersion: COMPARISON_FORMAT_VERSION,
    ...{ ...label, confidence, bootstrapSamples, calibrationBins },
    runs: chosen.map(({ evaluated }, index) =>
      describeRun(evaluated, at(arms, index), at(labels, index)),
    ),
    slices: scoreSlices(scored, {
      ...{ confidence, bootstrapSamples, calibrationBins, seed: report.run.seed },
      sizeBucketEdges: [...(sizeBucketEdges ?? bucketEdgesOf(report))],
      // Only labels that are values have it.
      ndcgAt: report.slices[0]?.arms[0]?.metrics.values?.ndcgAt ?? 1,
      references: [at(labels, 0)],
    }),
    calibrationCurves: calibrationCurvesOf(scored, report),
  };
}

/** An empty bucket has no slice; its edges follow from those of its neighbours. */
function bucketEdgesOf({ slices }: EvaluationReport): number[] {
  return slices
    .slice(1)
    .flatMap(({ supportRowCountMin: least, supportRowCountMax: most }) => [
      ...(least === 0 ? [] : [least - 1]),
      ...(most === null ? [] : [most]),
    ]);
}

/** The second of two equal names gets ` #2`. */
function labelsOf(names: readonly string[]): string[] {
  return names.map((name, index) => {
    const earlier = names.slice(0, index).filter((other) => other === name).length;
    return earlier === 0 ? name : `${name} #${earlier + 1}`;
  });
}

function describeRun(
  { address, report }: EvaluatedRun,
  arm: string,
  label: string,
): ComparisonReport['runs'][number] {
  const chosen = report.selection.chosen.find((each) => each.arm === arm);
  const { run, method, model, personalBlocks, seed, configHash, metaDigest, storeDigest } =
    report.run;
  return {
    ...{ label, run, arm, address, method, model, personalBlocks, seed },
    ...{ configHash, metaDigest, storeDigest },
    cell: chosen?.cell ?? null,
    validationLogloss: chosen?.validationLogloss ?? null,
  };
}

/** @throws QianmoError of kind `usage` that names the first task or row that differs. */
function assertSameRows(first: EvaluatedRun, other: EvaluatedRun): void {
  const lossOf = ({ report }: EvaluatedRun): string => report.label?.loss ?? 'binary';
  const difference =
    lossOf(first) === lossOf(other)
      ? rowDifference(first.logits, other.logits)
      : `labels judged by ${lossOf(other)} loss instead of ${lossOf(first)}`;
  if (difference === null) return;
  const storeOf = ({ report }: EvaluatedRun): string =>
    `task store ${report.run.storeDigest.slice(0, 12)}`;
  throw errorOf('usage', 'these runs were not evaluated on the same test rows', {
    where: other.address,
    expected: `the test rows of ${first.address} (${storeOf(first)})`,
    found: `${difference} (${storeOf(other)})`,
    cure: 'compare runs whose stores have the same logs, tasks and splits; if a store was prepared again, evaluate its runs again',
  });
}

const COLUMNS = {
  logRows: 'row of the logs',
  clicks: 'clicks',
  impressions: 'impressions',
} as const;

/** The first difference in words; null if there is none. */
function rowDifference(first: TestLogits, other: TestLogits): string | null {
  const known = new Set(other.taskKeys);
  const missing = first.taskKeys.filter((key) => !known.has(key)).length;
  if (missing > 0 || first.taskKeys.length !== other.taskKeys.length)
    return `${other.taskKeys.length} test adgroups instead of ${first.taskKeys.length}, ${missing} of those missing`;
  for (const [task, key] of first.taskKeys.entries()) {
    // A key of several columns is joined with U+001F.
    const name = key.replaceAll('\u001f', ', ');
    if (other.taskKeys[task] !== key) return `the test adgroups in another order, from ${name} on`;
    const [start, end] = spanAt(first.rows.starts, task);
    const [otherStart, otherEnd] = spanAt(other.rows.starts, task);
    if (otherEnd - otherStart !== end - start)
      return `${otherEnd - otherStart} query rows of adgroup ${name} instead of ${end - start}`;
    // The starts agree up to here, so rows are at the same places in both.
    for (const column of ['logRows', 'clicks', 'impressions'] as const)
      for (let row = start; row < end; row += 1)
        if (first.rows[column][row] !== other.rows[column][row])
          return `other ${COLUMNS[column]} in query row ${row - start + 1} of adgroup ${name}: ${at(other.rows[column], row)} instead of ${at(first.rows[column], row)}`;
  }
  return null;
}

export interface EvaluatedRun {
  readonly address: string;
  readonly report: EvaluationReport;
  readonly logits: TestLogits;
}

/** One argument of `qianmo compare`: `RUN` or `RUN:ARM`. */
interface RunArgument {
  readonly run: string;
  readonly arm: string | null;
}

/** Slashes follow the colon of `s3://` or `file://`, but not the colon before an arm. */
export function parseRunArgument(text: string): RunArgument {
  const parts = /^(.+):([^:/]+)$/.exec(text);
  return parts === null
    ? { run: text, arm: null }
    : { run: parts[1] ?? text, arm: parts[2] ?? null };
}

/**
 * @param segment the segment whose evaluation is read, if the run's tasks have segments
 * @throws QianmoError `usage` when there is no evaluation, `data` when it is damaged.
 */
export async function readEvaluatedRun(
  store: ObjectStore,
  segment: string | null = null,
): Promise<EvaluatedRun> {
  const { address } = store;
  const reportKey = fileOfSegment(REPORT_FILE, segment);
  const logitsKey = fileOfSegment(TEST_LOGITS_KEY, segment);
  const object = await store.get(reportKey);
  if (object === null) throw await nothingEvaluated(store, reportKey);
  const report = parseReport(Buffer.from(object.bytes).toString('utf8'), `${address}/${reportKey}`);
  const where = `${address}/${logitsKey}`;
  const found = await store.get(logitsKey);
  if (found === null)
    throw errorOf('data', 'the evaluation has no logits of its test rows', {
      where,
      cure: 'evaluate the run again: qianmo evaluate run.yaml',
    });
  const bytes = verifiedBlob(found.bytes, report.testLogits, where);
  return { address, report, logits: decodeTestLogits(bytes, where) };
}

async function nothingEvaluated(store: ObjectStore, reportKey: string): Promise<QianmoError> {
  const others = (await store.list('evaluation')).filter((key) => /^evaluation.*\.json$/.test(key));
  return errorOf('usage', 'the run was not evaluated', {
    where: store.address,
    expected: reportKey,
    found: others.length === 0 ? 'no evaluation' : others.join(', '),
    cure:
      others.length === 0
        ? "name a run's output, its s3://bucket/prefix or its run.yaml (auto/best.yaml of a search), and evaluate it first: qianmo evaluate run.yaml"
        : 'name one of its segments with --segment, or leave --segment out if it has none',
  });
}

/**
 * The requested arm, or else the arm that the run was made for: `meta-adapted` if it is there, else
 * the arm with the lowest validation logloss, else the last one. Scores on test rows never decide.
 *
 * @throws QianmoError `usage` when the run has no such arm.
 */
export function armOf({ address, report, logits }: EvaluatedRun, asked: string | null): string {
  const known = [...logits.logits.keys()];
  if (asked !== null) {
    const isAsked = (arm: string): boolean => shownArm(arm, report.run.personalBlocks) === asked;
    const found = known.includes(asked) ? asked : known.find(isAsked);
    if (found !== undefined) return found;
    const nearest = nearestName(asked, known);
    throw errorOf('usage', `the run was not evaluated with an arm "${asked}"`, {
      where: address,
      expected: `one of ${known.join(', ')}`,
      found: asked,
      cure:
        nearest === null ? 'write one of these names after the colon' : `did you mean ${nearest}?`,
    });
  }
  if (known.includes('meta-adapted')) return 'meta-adapted';
  const byValidation = report.selection.chosen
    .filter(({ arm }) => known.includes(arm))
    .sort((a, b) => a.validationLogloss - b.validationLogloss);
  const arm = byValidation[0]?.arm ?? known.filter((name) => name !== 'oracle').at(-1);
  if (arm === undefined) throw new Error('an evaluation has at least one arm');
  return arm;
}
