/** The form of a metric's definition: its kind, its labels with the values that they can have, and who has it. */

/** The process whose endpoint has a metric. */
export const METRIC_SOURCES = ['coordinator', 'worker', 'server', 'dashboard'] as const;
export type MetricSource = (typeof METRIC_SOURCES)[number];

export interface MetricDefinition {
  readonly kind: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  readonly from: readonly MetricSource[];
  /** Values by label; null where they are not known beforehand. */
  readonly labels?: Readonly<Record<string, readonly string[] | null>>;
  /** The upper bounds of a histogram, ascending, without infinity. */
  readonly buckets?: readonly number[];
  /** The rule that makes one value of those of several processes on one port: by default gauges the largest, others the sum. */
  readonly together?: 'sum' | 'max';
}
