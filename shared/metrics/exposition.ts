/** Metrics in the text format of Prometheus, version 0.0.4. */

import { definitionOf, METRIC_NAMES, type MetricName } from './metric-definitions.js';
import type { MetricsSnapshot } from './metric-registry.js';

export const EXPOSITION_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

type Value = MetricsSnapshot[number];

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
