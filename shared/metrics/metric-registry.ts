/** The values of a process's metrics. Updates are additions to numbers in memory; text is made when somebody asks. */

import { z } from 'zod';
import {
  definitionOf,
  METRIC_NAMES,
  type LabelsOf,
  type MetricName,
  type MetricUpdate,
} from './metric-definitions.js';
import type { MetricSource } from './metric-definition.js';

/** Values of labels that are not known beforehand are bounded by this; later ones count as `other`. */
const SERIES_COUNT_MAX = 200;

/** The value of a metric with these labels. */
interface Series {
  readonly labels: Readonly<Record<string, string>>;
  /** The sum of all observations in the case of a histogram. */
  value: number;
  /** By bucket, the observations that are in it and in none before; the last is that without a bound. */
  readonly counts?: number[];
}

export const MetricsSnapshotSchema = z.array(
  z.strictObject({
    name: z.enum(METRIC_NAMES),
    labels: z.record(z.string(), z.string()),
    value: z.number(),
    counts: z.array(z.number()).optional(),
  }),
);
/** All values of a process at one time. */
export type MetricsSnapshot = z.infer<typeof MetricsSnapshotSchema>;

export class MetricRegistry {
  readonly #source: MetricSource;
  readonly #series = new Map<MetricName, Map<string, Series>>();

  /** Counters and histograms of the source whose labels are known begin at 0, so that rates are right from the first event on. */
  constructor(source: MetricSource) {
    this.#source = source;
    for (const name of METRIC_NAMES) {
      const { kind, from, labels = {} } = definitionOf(name);
      if (!from.includes(source) || kind === 'gauge') continue;
      for (const each of combinationsOf(labels)) this.#of(name, each);
    }
  }

  add<Name extends MetricName>(name: Name, labels: LabelsOf<Name>, by = 1): void {
    this.#of(name, labels).value += by;
  }

  /** Sets a gauge, or a counter that is counted elsewhere. */
  set<Name extends MetricName>(name: Name, labels: LabelsOf<Name>, value: number): void {
    this.#of(name, labels).value = value;
  }

  observe<Name extends MetricName>(name: Name, labels: LabelsOf<Name>, value: number): void {
    const series = this.#of(name, labels);
    const { buckets = [] } = definitionOf(name);
    const place = buckets.findIndex((bound) => value <= bound);
    const at = place < 0 ? buckets.length : place;
    series.value += value;
    if (series.counts !== undefined) series.counts[at] = (series.counts[at] ?? 0) + 1;
  }

  /** Applies the updates of metrics that this process exports. A coordinator hears of its local workers, who count for themselves. */
  apply(updates: readonly MetricUpdate[]): void {
    for (const { how, name, labels, value } of updates) {
      if (!definitionOf(name).from.includes(this.#source)) continue;
      // The functions that make updates give each metric its labels.
      if (how === 'forget') this.forget(name);
      else this[how](name, labels as LabelsOf<MetricName>, value);
    }
  }

  /** The value of a gauge or counter; 0 if nobody has set it. */
  valueOf<Name extends MetricName>(name: Name, labels: LabelsOf<Name>): number {
    return this.#series.get(name)?.get(keyOf(labels))?.value ?? 0;
  }

  /** Forgets all values of a metric, as that of a bundle that is no longer served. */
  forget(name: MetricName): void {
    this.#series.delete(name);
  }

  snapshot(): MetricsSnapshot {
    return METRIC_NAMES.flatMap((name) =>
      [...(this.#series.get(name)?.values() ?? [])].map(({ labels, value, counts }) => ({
        ...{ name, labels, value },
        ...(counts === undefined ? {} : { counts: [...counts] }),
      })),
    );
  }

  #of(name: MetricName, labels: Readonly<Record<string, string>>): Series {
    const known = this.#series.get(name) ?? new Map<string, Series>();
    this.#series.set(name, known);
    const key = keyOf(labels);
    const found = known.get(key);
    if (found !== undefined) return found;
    if (known.size >= SERIES_COUNT_MAX && !Object.values(labels).includes(OTHER))
      return this.#of(name, Object.fromEntries(Object.keys(labels).map((each) => [each, OTHER])));
    const { kind, buckets = [] } = definitionOf(name);
    const counts = Array<number>(buckets.length + 1).fill(0);
    const fresh = { labels, value: 0, ...(kind === 'histogram' ? { counts } : {}) };
    known.set(key, fresh);
    return fresh;
  }
}

const OTHER = 'other';

/** The values of a process that remain once it has ended. */
export function countsIn(snapshot: MetricsSnapshot): MetricsSnapshot {
  return snapshot.filter(({ name }) => definitionOf(name).kind !== 'gauge');
}

/** The values of several processes as those of one. */
export function mergedSnapshots(snapshots: readonly MetricsSnapshot[]): MetricsSnapshot {
  const merged = new Map<string, MetricsSnapshot[number]>();
  for (const each of snapshots.flat()) {
    const key = `${each.name} ${keyOf(each.labels)}`;
    const known = merged.get(key);
    merged.set(key, known === undefined ? each : together(known, each));
  }
  return [...merged.values()].sort(
    (a, b) => METRIC_NAMES.indexOf(a.name) - METRIC_NAMES.indexOf(b.name),
  );
}

function together(
  one: MetricsSnapshot[number],
  other: MetricsSnapshot[number],
): MetricsSnapshot[number] {
  const { kind, together: how = kind === 'gauge' ? 'max' : 'sum' } = definitionOf(one.name);
  if (how === 'max') return { ...one, value: Math.max(one.value, other.value) };
  const counts = one.counts?.map((count, place) => count + (other.counts?.[place] ?? 0));
  return {
    ...{ ...one, value: one.value + other.value },
    ...(counts === undefined ? {} : { counts }),
  };
}

function keyOf(labels: Readonly<Record<string, string>>): string {
  const values = Object.values(labels);
  return values.length < 2 ? (values[0] ?? '') : JSON.stringify(values);
}

/** All labels whose values are known; none if a label has values that are not. */
function combinationsOf(
  labels: Readonly<Record<string, readonly string[] | null>>,
): Readonly<Record<string, string>>[] {
  return Object.entries(labels).reduce<Readonly<Record<string, string>>[]>(
    (combined, [label, values]) =>
      combined.flatMap((each) => (values ?? []).map((value) => ({ ...each, [label]: value }))),
    [{}],
  );
}
