/** Computes the numbers of a comparison from evaluated runs. Pure, given the seed. */

import { at, spanAt } from '../../shared/base/arrays.js';
import { QianmoError } from '../../shared/base/errors.js';
import { randomStream } from '../../shared/base/random.js';
import type { EvaluationReport, Interval } from '../scoring/evaluation-report.js';
import { selectRows, selectTasks } from '../scoring/held-out-rows.js';
import { calibrationBins, sumOf } from '../scoring/metrics.js';
import { histogramsOf } from '../scoring/report-shapes.js';
import {
  adgroupImpressions,
  metricsOf,
  drawsNameOf,
  positionsOf,
  scoreAdgroups,
} from '../scoring/score-arms.js';
import { EVERY_ADGROUP, sizeBuckets, type SizeBucket } from '../scoring/size-buckets.js';
import {
  COMPARISON_FORMAT_VERSION,
  type ComparedSlice,
  type ComparisonReport,
  type RunDifferences,
} from './comparison-report.js';
import { armOf, type EvaluatedRun } from './evaluated-run.js';
import { bootstrapMeasures, measuredRun, type ComparedMeasures } from './run-measures.js';
import type { TestLogits } from '../scoring/test-logits.js';

export interface ChosenRun {
  readonly evaluated: EvaluatedRun;
  /** Null stands for the arm that the run was made for. */
  readonly arm: string | null;
}

interface ComparisonSettings {
  /** Upper edges of the size buckets, in support rows. The default is the edges of the first run. */
  readonly sizeBucketEdges?: readonly number[];
}

/** The page has this many colours. */
const COMPARED_RUNS_MAX = 8;

/**
 * @throws QianmoError `usage` when an arm is not there or the runs were not evaluated on the same
 *   test rows.
 */
export function compareRuns(
  chosen: readonly ChosenRun[],
  settings: ComparisonSettings = {},
): ComparisonReport {
  const [first] = chosen;
  if (first === undefined || chosen.length < 2 || chosen.length > COMPARED_RUNS_MAX)
    throw new QianmoError({
      kind: 'usage',
      what: 'a comparison needs at least two runs',
      expected: `2 to ${COMPARED_RUNS_MAX} runs or arms of runs`,
      found: `${chosen.length}`,
      cure: 'name the runs one after the other: qianmo compare runs/a runs/b runs/b:finetuned',
    });
  const { report, logits } = first.evaluated;
  for (const { evaluated } of chosen.slice(1)) assertSameRows(first.evaluated, evaluated);
  const arms = chosen.map(({ evaluated, arm }) => armOf(evaluated, arm));
  const labels = labelsOf(
    chosen.map(({ evaluated }, i) => `${evaluated.report.run.run}:${at(arms, i)}`),
  );
  const compared: Compared = {
    rows: { ...logits.rows, ...(report.label === undefined ? {} : { label: report.label }) },
    supportRowCounts: logits.supportRowCounts,
    supportHashes: logits.supportHashes,
    logits: chosen.map(({ evaluated }, index) => logitsOf(evaluated, at(arms, index))),
  };
  const edges = settings.sizeBucketEdges ?? bucketEdgesOf(report);
  return {
    formatVersion: COMPARISON_FORMAT_VERSION,
    ...(report.label === undefined ? {} : { label: report.label }),
    confidence: report.confidence,
    bootstrapSamples: report.bootstrapSamples,
    calibrationBins: report.calibrationBins,
    runs: chosen.map(({ evaluated }, index) => ({
      ...describeRun(evaluated, at(arms, index), at(labels, index)),
      otherSupportAdgroupCount: otherSupportAdgroupCount(compared, evaluated),
    })),
    slices: [EVERY_ADGROUP, ...sizeBuckets(edges)].flatMap((bucket) => {
      const positions = positionsOf(compared, bucket);
      return positions.length === 0 ? [] : [compareSlice(compared, bucket, positions, report)];
    }),
    calibrationCurves: compared.logits.map((of) =>
      calibrationBins(of, compared.rows, report.calibrationBins),
    ),
    differenceHistograms: histogramsAgainstFirst(compared, labels),
  };
}

function logitsOf({ logits }: EvaluatedRun, arm: string): Float32Array {
  const found = logits.logits.get(arm);
  if (found === undefined) throw new Error(`the run has no logits of the arm ${arm}`);
  return found;
}

interface Compared {
  readonly rows: EvaluatedRun['logits']['rows'];
  /** The support row count of each task in the first run. */
  readonly supportRowCounts: readonly number[];
  readonly supportHashes: readonly number[] | null;
  /** The logits of each run, `[rowCount]`. */
  readonly logits: readonly Float32Array[];
}

function compareSlice(
  compared: Compared,
  bucket: SizeBucket,
  positions: readonly number[],
  report: EvaluationReport,
): ComparedSlice {
  const rows = selectTasks(compared.rows, positions);
  const logits = compared.logits.map((of) => selectRows(compared.rows, positions, of));
  const scores = logits.map((of) => scoreAdgroups(of, rows));
  const ndcgAt = ndcgAtOf(report);
  const settings = {
    calibrationBins: report.calibrationBins,
    ...(ndcgAt === undefined ? {} : { ndcgAt }),
  };
  const measures = bootstrapMeasures(
    logits.map((of, run) => measuredRun(of, rows, at(scores, run))),
    rows,
    {
      samples: report.bootstrapSamples,
      confidence: report.confidence,
      stream: randomStream(report.run.seed, 'comparison bootstrap', drawsNameOf(compared, bucket)),
    },
  );
  return {
    ...bucket,
    adgroupCount: positions.length,
    queryRowCount: rows.clicks.length,
    impressions: sumOf(rows.impressions),
    clicks: sumOf(rows.clicks),
    aucBootstrapSamples: measures.aucSamples,
    runs: logits.map((of, run) => ({
      metrics: metricsOf(
        of,
        rows,
        {
          aucs: at(scores, run).aucs,
          logloss: finite(measures, run, 'logloss'),
          loglossPerAdgroup: finite(measures, run, 'loglossPerAdgroup'),
        },
        settings,
      ),
      differences: run === 0 ? null : differencesOf(measures, run),
    })),
  };
}

function finite(
  { values }: ComparedMeasures,
  run: number,
  measure: 'logloss' | 'loglossPerAdgroup',
): Interval {
  const interval = at(values, run).get(measure) ?? null;
  if (interval === null) throw new Error(`the ${measure} of a run is not finite`);
  return interval;
}

function differencesOf({ differences }: ComparedMeasures, run: number): RunDifferences {
  const of = (measure: keyof RunDifferences): Interval | null =>
    at(differences, run).get(measure) ?? null;
  return {
    logloss: of('logloss'),
    loglossPerAdgroup: of('loglossPerAdgroup'),
    normalisedEntropy: of('normalisedEntropy'),
    auc: of('auc'),
    gauc: of('gauc'),
    calibrationError: of('calibrationError'),
  };
}

function histogramsAgainstFirst(
  { rows, logits }: Compared,
  labels: readonly string[],
): ComparisonReport['differenceHistograms'] {
  const impressions = adgroupImpressions(rows);
  const means = logits.map((of) =>
    scoreAdgroups(of, rows).losses.map((loss, adgroup) => loss / at(impressions, adgroup)),
  );
  const first = at(means, 0);
  const differences = means
    .slice(1)
    .map((of, index): [string, Float64Array] => [
      at(labels, index + 1),
      of.map((mean, adgroup) => mean - at(first, adgroup)).filter(Number.isFinite),
    ]);
  return histogramsOf(differences).map(({ name, ...histogram }) => ({ label: name, ...histogram }));
}

/** Every run predicts the same rows, but runs may have adapted on different ones. */
function otherSupportAdgroupCount(compared: Compared, { logits }: EvaluatedRun): number {
  return positionsOf(compared, EVERY_ADGROUP).filter(
    (position) =>
      logits.supportRowCounts[position] !== compared.supportRowCounts[position] ||
      haveOtherSupportRows(compared, logits, position),
  ).length;
}

/** Evaluations of earlier versions did not keep what tells rows apart. */
function haveOtherSupportRows(
  { supportHashes: first }: Compared,
  { supportHashes: other }: EvaluatedRun['logits'],
  position: number,
): boolean {
  return first !== null && other !== null && first[position] !== other[position];
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

/** Only labels that are values have it. */
function ndcgAtOf({ slices }: EvaluationReport): number | undefined {
  return slices[0]?.arms[0]?.metrics.values?.ndcgAt;
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
): Omit<ComparisonReport['runs'][number], 'otherSupportAdgroupCount'> {
  const chosen = report.selection.chosen.find((each) => each.arm === arm);
  const { run, method, model, personalBlocks, seed, configHash, metaDigest, storeDigest } =
    report.run;
  const ndcgAt = ndcgAtOf(report);
  return {
    ...{ label, run, arm, address, method, model, personalBlocks, seed },
    ...{ configHash, metaDigest, storeDigest },
    cell: chosen?.cell ?? null,
    validationLogloss: chosen?.validationLogloss ?? null,
    ...(ndcgAt === undefined ? {} : { ndcgAt }),
  };
}

/** @throws QianmoError of kind `usage` that names the first task or row that differs. */
function assertSameRows(first: EvaluatedRun, other: EvaluatedRun): void {
  const difference = labelDifference(first, other) ?? rowDifference(first.logits, other.logits);
  if (difference === null) return;
  const digestOf = ({ report }: EvaluatedRun): string => report.run.storeDigest.slice(0, 12);
  const isSameStore = first.report.run.storeDigest === other.report.run.storeDigest;
  throw new QianmoError({
    kind: 'usage',
    what: 'these runs were not evaluated on the same test rows',
    where: other.address,
    expected: `the test rows of ${first.address} (task store ${digestOf(first)})`,
    found: `${difference}${isSameStore ? '' : ` (task store ${digestOf(other)})`}`,
    cure: 'compare runs whose stores have the same logs, tasks and splits; if a store was prepared again, evaluate its runs again',
  });
}

function labelDifference(
  { report: first }: EvaluatedRun,
  { report: other }: EvaluatedRun,
): string | null {
  const loss = ({ label }: EvaluatedRun['report']): string => label?.loss ?? 'binary';
  return loss(first) === loss(other)
    ? null
    : `labels judged by ${loss(other)} loss instead of ${loss(first)}`;
}

/** The first difference in words; null if there is none. */
function rowDifference(first: TestLogits, other: TestLogits): string | null {
  const unique = (keys: readonly string[], of: readonly string[]): string[] => {
    const known = new Set(of);
    return keys.filter((key) => !known.has(key));
  };
  const missing = unique(first.taskKeys, other.taskKeys);
  const added = unique(other.taskKeys, first.taskKeys);
  if (missing.length + added.length > 0)
    return `${other.taskKeys.length} test adgroups instead of ${first.taskKeys.length}, ${missing.length} of those missing, ${added.length} others`;
  for (const [task, key] of first.taskKeys.entries()) {
    if (other.taskKeys[task] !== key)
      return `the test adgroups in another order, from ${shown(key)} on`;
    const [start, end] = spanAt(first.rows.starts, task);
    const [otherStart, otherEnd] = spanAt(other.rows.starts, task);
    const otherCount = otherEnd - otherStart;
    if (otherCount !== end - start)
      return `${otherCount} query rows of adgroup ${shown(key)} instead of ${end - start}`;
    // The starts agree up to here, so rows are at the same places in both.
    for (const column of ['logRows', 'clicks', 'impressions'] as const)
      for (let row = start; row < end; row += 1)
        if (first.rows[column][row] !== other.rows[column][row])
          return `other ${NAMES[column]} in query row ${row - start + 1} of adgroup ${shown(key)}: ${at(other.rows[column], row)} instead of ${at(first.rows[column], row)}`;
  }
  return null;
}

const NAMES = { logRows: 'row of the logs', clicks: 'clicks', impressions: 'impressions' } as const;

/** A key of several columns is joined with U+001F. */
function shown(key: string): string {
  return key.replaceAll('\u001f', ', ');
}
