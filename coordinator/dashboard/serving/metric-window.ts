/**
 * Two readings of a server's metrics, and what was counted between them. Without an earlier reading, or after the
 * server was started again, what was counted since its start.
 */

import type { MetricSample } from '../../../shared/metrics/exposition-reader.js';
import type { MetricName } from '../../../shared/metrics/metric-definitions.js';

export interface MetricReading {
  /** Monotonic milliseconds. */
  readonly atMs: number;
  readonly samples: readonly MetricSample[];
}

type Labels = Readonly<Record<string, string>>;

/** An upper bound and the observations that are at most that, as a histogram counts them. */
type Bucket = readonly [bound: number, count: number];

export class MetricWindow {
  readonly #earlier: ReadonlyMap<string, number>;
  readonly #later: readonly MetricSample[];
  /** Milliseconds between the readings; null if counts are those since the start. */
  readonly durationMs: number | null;

  constructor(earlier: MetricReading | null, later: MetricReading) {
    const before = new Map(earlier?.samples.map((sample) => [keyOf(sample), sample.value]));
    const isRestarted = later.samples.some(
      (sample) => isCounter(sample) && sample.value < (before.get(keyOf(sample)) ?? 0),
    );
    const isUsed = earlier !== null && !isRestarted;
    this.#earlier = isUsed ? before : new Map();
    this.#later = later.samples;
    this.durationMs = isUsed ? later.atMs - earlier.atMs : null;
  }

  /** The sum of the present values with these labels. */
  present(name: MetricName, labels: Labels = {}): number {
    return this.#named(name, labels).reduce((sum, { value }) => sum + value, 0);
  }

  /** The count with these labels. */
  counted(name: MetricName, labels: Labels = {}): number {
    return this.#named(name, labels).reduce((sum, sample) => sum + this.#grown(sample), 0);
  }

  /** The values that a label has. */
  valuesOf(name: MetricName, label: string): string[] {
    const values = this.#named(name, {}).flatMap(({ labels }) => labels[label] ?? []);
    return [...new Set(values)].sort();
  }

  labelsOf(name: MetricName): Labels[] {
    return this.#named(name, {}).map(({ labels }) => labels);
  }

  /** The quantile of a histogram's observations, between the bounds of its bucket in proportion; null without any. */
  quantile(name: MetricName, labels: Labels, share: number): number | null {
    const buckets = this.#named(`${name}_bucket`, labels)
      .map((sample): Bucket => [boundOf(sample), this.#grown(sample)])
      .sort(([a], [b]) => a - b);
    return quantileOf(buckets, share);
  }

  #named(name: string, labels: Labels): MetricSample[] {
    const pairs = Object.entries(labels);
    return this.#later.filter(
      (sample) =>
        sample.name === name && pairs.every(([label, value]) => sample.labels[label] === value),
    );
  }

  #grown(sample: MetricSample): number {
    return sample.value - (this.#earlier.get(keyOf(sample)) ?? 0);
  }
}

/** As `histogram_quantile` of Prometheus: above the last bound there is no better answer than that bound. */
export function quantileOf(buckets: readonly Bucket[], share: number): number | null {
  const total = buckets.at(-1)?.[1] ?? 0;
  if (total <= 0) return null;
  const rank = share * total;
  let below: Bucket = [0, 0];
  for (const bucket of buckets) {
    const [bound, count] = bucket;
    if (count >= rank && count > below[1]) {
      if (bound === Number.POSITIVE_INFINITY) return below[0];
      return below[0] + (bound - below[0]) * ((rank - below[1]) / (count - below[1]));
    }
    below = bucket;
  }
  return below[0];
}

function boundOf({ labels }: MetricSample): number {
  const bound = labels['le'] ?? '';
  return bound === '+Inf' ? Number.POSITIVE_INFINITY : Number(bound);
}

function isCounter({ name }: MetricSample): boolean {
  return /_(total|count|bucket)$/.test(name);
}

function keyOf({ name, labels }: MetricSample): string {
  return JSON.stringify([name, ...Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1))]);
}
