/** One adgroup of an evaluated run: its rows, and the loss of every arm on them. */

import { spanAt } from '../../../shared/base/arrays.js';
import type { Clock } from '../../../shared/base/clock.js';
import { LruCache } from '../../../shared/base/lru-cache.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import { readEvaluatedRun, type EvaluatedRun } from '../../scoring/evaluated-run.js';
import { REPORT_FILE, segmentOfKey } from '../../scoring/evaluation-report.js';
import { isOfValues, lossSum, sumOf } from '../../scoring/metrics.js';
import { KeptValues } from './kept-values.js';

export interface EvaluatedAdgroup {
  readonly supportRowCount: number;
  readonly queryRowCount: number;
  readonly impressions: number;
  /** The sum of values where the label is a value. */
  readonly clicks: number;
  /** `logloss` or `squared error`. */
  readonly loss: string;
  /** Means over the query rows, by impressions, in the order in which arms are shown. */
  readonly arms: readonly { readonly arm: string; readonly queryLoss: number }[];
}

export interface NamedAdgroup extends EvaluatedAdgroup {
  readonly name: string;
}

export interface EvaluatedAdgroups {
  /** The segments that were evaluated; empty if the run's tasks have none. */
  readonly segments: readonly string[];
  /** The segment of all that follows; null if there are none. */
  readonly segment: string | null;
  /** The first of them by name, for a form. */
  readonly names: readonly string[];
  /** Those with the most impressions among their query rows; none if one was asked for. */
  readonly largest: readonly NamedAdgroup[];
  readonly count: number;
  /** The key of the adgroup that was asked for, as servers know it; null for the list. */
  readonly key: string | null;
  /** Null if there is none of the name that was asked for, in any segment. */
  readonly found: EvaluatedAdgroup | null;
}

/** An adgroup that is asked for. */
interface AskedAdgroup {
  /** The values of the task columns, joined with U+001F; null for the list. */
  readonly name: string | null;
  /** The segment to look in first; null for the first segment. */
  readonly segment: string | null;
}

/** Between the values of several task columns: in keys, and as pages show them. */
const KEY_SEPARATOR = '\u001f';
const SHOWN_SEPARATOR = ', ';
const REPORT_PREFIX = 'evaluation';
const BYTES_A_NAME = 32;
const NAMES_MAX = 200;
const LARGEST_MAX = 50;
/** Parsed evaluations that are kept, by the bytes of their arrays. */
const KEPT_BYTE_COUNT_MAX = 128 * 1024 * 1024;
/** Folders are looked at for other evaluations this often, buckets more seldom. */
const FOLDERS_LISTED_FOR_MS = 2_000;
const BUCKETS_LISTED_FOR_MS = 30_000;

interface KeptEvaluation extends EvaluatedRun, Pick<EvaluatedAdgroups, 'names' | 'largest'> {
  /** The time of the report that it was read from. */
  readonly modifiedMs: number;
}

/** The report of a segment, as the listing of the output has it. */
interface ListedReport {
  readonly segment: string | null;
  readonly modifiedMs: number;
}

/**
 * The evaluations of runs. Each is read once, and again when its report was written anew, which is the last of its files:
 * a page that is open costs a listing.
 */
export class EvaluationCatalog {
  readonly #folders: KeptValues<readonly ListedReport[]>;
  readonly #buckets: KeptValues<readonly ListedReport[]>;
  readonly #read = new LruCache<string, KeptEvaluation>({ byteCountMax: KEPT_BYTE_COUNT_MAX });

  constructor(clock: Clock) {
    this.#folders = new KeptValues(clock, FOLDERS_LISTED_FOR_MS);
    this.#buckets = new KeptValues(clock, BUCKETS_LISTED_FOR_MS);
  }

  /** Null before an evaluation. */
  async adgroupsOf(
    output: ObjectStore,
    { name, segment: asked }: AskedAdgroup,
  ): Promise<EvaluatedAdgroups | null> {
    const reports = await this.#reportsOf(output);
    const first = reports.find(({ segment }) => segment === asked) ?? reports[0];
    if (first === undefined) return null;
    const segments = reports.flatMap(({ segment }) => (segment === null ? [] : [segment]));
    const evaluated = await this.#evaluationOf(output, first);
    if (name === null)
      return shownOf(evaluated, { segments, ...first }, { key: null, found: null });
    for (const report of [first, ...reports.filter((each) => each !== first)]) {
      const candidate = await this.#evaluationOf(output, report);
      const index = placeOf(name, candidate.logits.taskKeys);
      const key = candidate.logits.taskKeys[index];
      if (key !== undefined)
        return shownOf(
          candidate,
          { segments, ...report },
          { key, found: adgroupAt(candidate, index) },
        );
    }
    const key = keyOf(name, evaluated.logits.taskKeys);
    return { ...shownOf(evaluated, { segments, ...first }, { key, found: null }), largest: [] };
  }

  #reportsOf(output: ObjectStore): Promise<readonly ListedReport[]> {
    const { address } = output;
    const listings = address.startsWith('s3://') ? this.#buckets : this.#folders;
    return listings.value(address, () => listedReports(output));
  }

  async #evaluationOf(
    output: ObjectStore,
    { segment, modifiedMs }: ListedReport,
  ): Promise<KeptEvaluation> {
    const key = JSON.stringify([output.address, segment]);
    const known = this.#read.get(key);
    if (known?.modifiedMs === modifiedMs) return known;
    const run = await readEvaluatedRun(output, segment);
    const names = [...run.logits.taskKeys].sort().slice(0, NAMES_MAX);
    const kept = { ...run, modifiedMs, names, largest: largestOf(run) };
    this.#read.put(key, kept, byteCountOf(run));
    return kept;
  }
}

/** A form shows the values of several columns with commas, since no keyboard has the separator of keys. */
function placeOf(name: string, taskKeys: readonly string[]): number {
  const exact = taskKeys.indexOf(name);
  if (exact >= 0 || !name.includes(SHOWN_SEPARATOR)) return exact;
  return taskKeys.findIndex((key) => key.replaceAll(KEY_SEPARATOR, SHOWN_SEPARATOR) === name);
}

/** The key of an adgroup that was not evaluated, with as many columns as those that were; the last one may have commas itself. */
function keyOf(name: string, [example = '']: readonly string[]): string {
  const columnCount = example.split(KEY_SEPARATOR).length;
  const parts = name.split(SHOWN_SEPARATOR);
  if (name.includes(KEY_SEPARATOR) || parts.length < columnCount) return name;
  const last = parts.slice(columnCount - 1).join(SHOWN_SEPARATOR);
  return [...parts.slice(0, columnCount - 1), last].join(KEY_SEPARATOR);
}

async function listedReports(output: ObjectStore): Promise<readonly ListedReport[]> {
  const listed = await output.listWithTimes(REPORT_PREFIX);
  return listed.flatMap(({ key, modifiedMs }) => {
    const segment = segmentOfKey(REPORT_FILE, key);
    return segment === undefined ? [] : [{ segment, modifiedMs }];
  });
}

function byteCountOf({ logits: { taskKeys, rows, logits } }: EvaluatedRun): number {
  const arrays = [rows.clicks, rows.impressions, rows.starts, ...logits.values()];
  const ofArrays = arrays.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const ofNames = taskKeys.reduce((sum, name) => sum + 2 * name.length + BYTES_A_NAME, 0);
  return ofArrays + ofNames;
}

function shownOf(
  { names, largest, logits }: KeptEvaluation,
  { segments, segment }: Pick<EvaluatedAdgroups, 'segments' | 'segment'>,
  { key, found }: Pick<EvaluatedAdgroups, 'key' | 'found'>,
): EvaluatedAdgroups {
  const count = logits.taskKeys.length;
  return { segments, segment, key, found, count, names, largest: found === null ? largest : [] };
}

/** The order of the list: most impressions first, then the earlier name. */
function largestOf(evaluated: EvaluatedRun): NamedAdgroup[] {
  const { taskKeys, rows } = evaluated.logits;
  const sizes = taskKeys.map((name, index) => {
    const [start, end] = spanAt(rows.starts, index);
    return { name, index, impressions: sumOf(rows.impressions.subarray(start, end)) };
  });
  return sizes
    .sort((a, b) => b.impressions - a.impressions || (a.name < b.name ? -1 : 1))
    .slice(0, LARGEST_MAX)
    .map(({ name, index }) => ({ name, ...adgroupAt(evaluated, index) }));
}

function adgroupAt({ report, logits: evaluated }: EvaluatedRun, index: number): EvaluatedAdgroup {
  const { supportRowCounts, rows, logits } = evaluated;
  const [start, end] = spanAt(rows.starts, index);
  const counts = {
    clicks: rows.clicks.subarray(start, end),
    impressions: rows.impressions.subarray(start, end),
    ...(report.label === undefined ? {} : { label: report.label }),
  };
  const impressions = sumOf(counts.impressions);
  return {
    supportRowCount: supportRowCounts[index] ?? 0,
    queryRowCount: end - start,
    impressions,
    clicks: sumOf(counts.clicks),
    loss: isOfValues(counts) ? 'squared error' : 'logloss',
    arms: [...logits].map(([arm, ofArm]) => ({
      arm,
      queryLoss: lossSum(ofArm.subarray(start, end), counts) / impressions,
    })),
  };
}
