/** The values of a process's metrics, and their text in the format of Prometheus, version 0.0.4, made when somebody asks. */

import { performance } from 'node:perf_hooks';
import type { Clock } from '../base/clock.js';
import {
  definitionOf,
  METRIC_NAMES,
  type LabelsOf,
  type MetricName,
  type MetricSource,
  type MetricUpdate,
} from './metric-definitions.js';

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

interface Value extends Readonly<Series> {
  readonly name: MetricName;
}

/** All values of a process at one time. */
export type MetricsSnapshot = readonly Value[];

export class MetricRegistry {
  readonly #source: MetricSource;
  readonly #series = new Map<MetricName, Map<string, Series>>();

  /** Counters and histograms of the source whose labels are known begin at 0, so that rates are right from the first event on. */
  constructor(source: MetricSource) {
    this.#source = source;
    for (const name of METRIC_NAMES) {
      const { kind, from, labels } = definitionOf(name);
      if (!from.includes(source) || kind === 'gauge') continue;
      for (const each of combinationsOf(labels ?? {})) this.#of(name, each);
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

  /** Applies the updates of metrics that this process exports: local workers count for themselves. */
  apply(updates: readonly MetricUpdate[]): void {
    for (const { how, name, labels, value } of updates) {
      if (!definitionOf(name).from.includes(this.#source)) continue;
      if (how === 'forget') this.forget(name);
      else this[how](name, labels, value);
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
  const merged = new Map<string, Value>();
  for (const each of snapshots.flat()) {
    const key = `${each.name} ${keyOf(each.labels)}`;
    const known = merged.get(key);
    merged.set(key, known === undefined ? each : together(known, each));
  }
  return [...merged.values()].sort(
    (a, b) => METRIC_NAMES.indexOf(a.name) - METRIC_NAMES.indexOf(b.name),
  );
}

function together(one: Value, other: Value): Value {
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

export const EXPOSITION_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

export function expositionOf(snapshot: MetricsSnapshot): string {
  const byName = new Map<MetricName, Value[]>();
  for (const value of snapshot) {
    const known = byName.get(value.name);
    if (known === undefined) byName.set(value.name, [value]);
    else known.push(value);
  }
  const families = METRIC_NAMES.flatMap((name) => familyOf(name, byName.get(name) ?? []));
  return families.length === 0 ? '' : `${families.join('\n')}\n`;
}

function familyOf(name: MetricName, values: readonly Value[]): string[] {
  if (values.length === 0) return [];
  const { kind, help } = definitionOf(name);
  return [
    `# HELP ${name} ${help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')}`,
    `# TYPE ${name} ${kind}`,
    ...values.flatMap((value) => (kind === 'histogram' ? histogramOf(value) : [lineOf(value)])),
  ];
}

function lineOf({ name, labels, value }: Value): string {
  return `${name}${labelsText(labels)} ${numberText(value)}`;
}

function histogramOf({ name, labels, value, counts = [] }: Value): string[] {
  const { buckets = [] } = definitionOf(name);
  let sum = 0;
  const lines = [...buckets, Number.POSITIVE_INFINITY].map((bound, place) => {
    sum += counts[place] ?? 0;
    return `${name}_bucket${labelsText({ ...labels, le: numberText(bound) })} ${sum}`;
  });
  return [
    ...lines,
    `${name}_sum${labelsText(labels)} ${numberText(value)}`,
    `${name}_count${labelsText(labels)} ${sum}`,
  ];
}

function labelsText(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([label, value]) => `${label}="${escaped(value)}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

function escaped(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

function numberText(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return '+Inf';
  return value === Number.NEGATIVE_INFINITY ? '-Inf' : String(value);
}

const MICROSECONDS_PER_SECOND = 1e6;
const MS_PER_SECOND = 1000;

/** Returns the function that sets them, to be called for each scrape. */
export function processMetrics(
  registry: MetricRegistry,
  { clock, version }: { readonly clock: Clock; readonly version: string },
): () => void {
  const startedMs = clock.epochMs() - process.uptime() * MS_PER_SECOND;
  let before = performance.eventLoopUtilization();
  return () => {
    const { user, system } = process.cpuUsage();
    const now = performance.eventLoopUtilization();
    registry.set('qianmo_build_info', { version, node: process.versions.node }, 1);
    registry.set('qianmo_process_start_time_seconds', {}, startedMs / MS_PER_SECOND);
    registry.set('qianmo_process_cpu_seconds_total', {}, (user + system) / MICROSECONDS_PER_SECOND);
    registry.set('qianmo_process_resident_memory_bytes', {}, process.memoryUsage.rss());
    const { utilization } = performance.eventLoopUtilization(now, before);
    registry.set('qianmo_event_loop_utilization_ratio', {}, utilization);
    before = now;
  };
}
