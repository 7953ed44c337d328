/** The ranking servers, read at their metrics: requests, latency, bundles, exploration, and calibration. */

import type { Clock } from '../../shared/base/clock.js';
import { exchange } from '../../shared/base/http-exchange.js';
import { redactedAddress } from '../../shared/base/redacted-address.js';
import type { MetricName } from '../../shared/metrics/metric-definitions.js';
import {
  absence,
  columnsOf,
  factsBlock,
  section,
  tableBlock,
  textBlock,
  type Block,
  type Fact,
  type Piece,
} from '../reports/document/document.js';
import { formatCount, formatPart, timeText } from '../reports/document/format.js';
import type { Page } from './page.js';

const DIGEST_LENGTH = 12;

/** @param addresses of metrics, over HTTP */
export async function servingPage(addresses: readonly string[], clock: Clock): Promise<Page> {
  const parts: Record<string, readonly Block[]> = {};
  await Promise.all(
    addresses.map(async (address, index) => {
      // In the order of the addresses, whichever answers first.
      parts[`server-${index}`] = [];
      parts[`trouble-${index}`] = [];
      const name = redactedAddress(address);
      try {
        const metrics = await readMetrics(address, clock);
        parts[`server-${index}`] = [section(name, '', serverBlocks(metrics))];
        if (metrics.sum('qianmo_exploration_failed') > 0)
          parts[`trouble-${index}`] = [
            absence('Requests are ranked without exploration, because its state fails.'),
          ];
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        parts[`trouble-${index}`] = [absence(`${name} cannot be read: ${reason}.`)];
      }
    }),
  );
  const announced = addresses.map((_, index) => `trouble-${index}`);
  return { title: 'Serving', place: '/serving', parts, announced };
}

type Labels = Readonly<Record<string, string>>;

interface Sample {
  readonly name: string;
  readonly labels: Labels;
  readonly value: number;
}

/** The metrics of a server, counted since it started. */
class ReadMetrics {
  readonly #samples: readonly Sample[];

  constructor(samples: readonly Sample[]) {
    this.#samples = samples;
  }

  of(name: string, labels: Labels = {}): readonly Sample[] {
    const pairs = Object.entries(labels);
    return this.#samples.filter(
      (sample) =>
        sample.name === name && pairs.every(([label, value]) => sample.labels[label] === value),
    );
  }

  sum(name: MetricName, labels: Labels = {}): number {
    return this.of(name, labels).reduce((sum, { value }) => sum + value, 0);
  }

  /** The values of a label, in their order. */
  valuesOf(name: MetricName, label: string): string[] {
    return [...new Set(this.of(name).flatMap(({ labels }) => labels[label] ?? []))].sort();
  }

  /** A quantile as Prometheus has it: between the bounds of its bucket in proportion; null without observations. */
  quantile(name: MetricName, labels: Labels, share: number): number | null {
    const buckets = this.of(`${name}_bucket`, labels)
      .map(
        ({ labels: { le = '' }, value }) => [le === '+Inf' ? Infinity : Number(le), value] as const,
      )
      .sort(([a], [b]) => a - b);
    const rank = share * (buckets.at(-1)?.[1] ?? 0);
    let [lowBound, lowCount] = [0, 0];
    for (const [bound, count] of buckets) {
      if (count >= rank && count > lowCount)
        return bound === Infinity
          ? lowBound
          : lowBound + (bound - lowBound) * ((rank - lowCount) / (count - lowCount));
      [lowBound, lowCount] = [bound, count];
    }
    return null;
  }
}

async function readMetrics(address: string, clock: Clock): Promise<ReadMetrics> {
  const { status, text } = await exchange({ method: 'GET', url: address, headers: {} }, { clock });
  if (status !== 200) throw new Error(`it answers with status ${status}`);
  return new ReadMetrics(samplesIn(text));
}

const LINE = /^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})? +(\S+)(?: +-?\d+)?$/;
const LABEL = /([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\[\\"n])*)"/g;

/** Reads the text format of Prometheus, version 0.0.4. @throws Error that names the line which is no sample */
export function samplesIn(exposition: string): Sample[] {
  return exposition.split('\n').flatMap((line, index): Sample[] => {
    if (line.trim() === '' || line.startsWith('#')) return [];
    const [, name, labels = '', value = ''] = LINE.exec(line) ?? [];
    if (name === undefined) throw new Error(`line ${index + 1} is no metric`);
    const pairs = [...labels.matchAll(LABEL)].map(([, label = '', text = '']) => [
      label,
      text.replaceAll(/\\(.)/g, (_, letter: string) => (letter === 'n' ? '\n' : letter)),
    ]);
    const number = value === '+Inf' ? Infinity : value === '-Inf' ? -Infinity : Number(value);
    return [{ name, labels: Object.fromEntries(pairs) as Labels, value: number }];
  });
}

function serverBlocks(metrics: ReadMetrics): Block[] {
  const processes = (state: string): number => metrics.sum('qianmo_server_processes', { state });
  const decided = metrics.sum('qianmo_decided_slots_total');
  const scored = metrics.sum('qianmo_scored_candidates_total');
  const facts: Fact[] = [
    [formatCount(metrics.sum('qianmo_requests_total')), 'requests', 'since the server started'],
    [formatCount(metrics.sum('qianmo_requests_waiting')), 'requests wait'],
    [formatPart(metrics.sum('qianmo_explored_slots_total'), decided), 'of decided places explored'],
    [formatPart(metrics.sum('qianmo_unknown_adgroups_total'), scored), 'of candidates unknown'],
    [formatCount(metrics.sum('qianmo_bundle_swaps_total')), 'bundles swapped'],
  ];
  if (processes('wanted') > 0)
    facts.unshift([`${processes('ready')} of ${processes('wanted')}`, 'processes ready']);
  return [
    factsBlock(...facts),
    ...bundles(metrics),
    ...calibration(metrics),
    routes(metrics),
    ...refusals(metrics),
  ];
}

function bundles(metrics: ReadMetrics): Block[] {
  const named = metrics
    .of('qianmo_bundle_info')
    .flatMap(({ labels: { role, bundle = '' } }): Piece[] => [
      { text: role === 'canary' ? ' canary ' : ' stable ', style: 'strong' },
      { text: bundle.slice(0, DIGEST_LENGTH) || 'unnamed', style: 'code' },
    ]);
  const swappedSeconds = metrics.sum('qianmo_last_bundle_swap_timestamp_seconds');
  const since = swappedSeconds === 0 ? '' : `, since ${timeText(swappedSeconds * 1_000)} UTC`;
  return named.length === 0 ? [] : [textBlock(['Bundle:', ...named, since])];
}

function routes(metrics: ReadMetrics): Block {
  const rows = metrics.valuesOf('qianmo_requests_total', 'route').flatMap((route) => {
    const count = metrics.sum('qianmo_requests_total', { route });
    if (count === 0) return [];
    const quantiles = [0.5, 0.99].map((share) => {
      const seconds = metrics.quantile('qianmo_request_seconds', { route }, share);
      return seconds === null ? '-' : `${Number((seconds * 1_000).toPrecision(2))} ms`;
    });
    const failed = ['4xx', '5xx'].map((status) =>
      formatPart(metrics.sum('qianmo_requests_total', { route, status }), count),
    );
    return [[route, formatCount(count), ...quantiles, ...failed]];
  });
  if (rows.length === 0) return absence('No requests since the server started.');
  const columns = ['<route', 'requests', 'median', '99th percentile', 'status 4xx', 'status 5xx'];
  return section('Requests by route', '', [
    tableBlock('Requests by route', { columns: columnsOf(...columns), rows }),
  ]);
}

function refusals(metrics: ReadMetrics): Block[] {
  const rows = metrics.valuesOf('qianmo_requests_refused_total', 'reason').flatMap((reason) => {
    const count = metrics.sum('qianmo_requests_refused_total', { reason });
    return count === 0 ? [] : [[reason, formatCount(count)]];
  });
  if (rows.length === 0) return [];
  const table = tableBlock('Refused requests', { columns: columnsOf('<reason', 'requests'), rows });
  return [section('Refused requests', '', [table])];
}

/** Predicted and observed rates by bundle and segment. */
function calibration(metrics: ReadMetrics): Block[] {
  const rows = metrics.of('qianmo_predicted_outcomes_total').flatMap(({ labels, value }) => {
    const impressions = metrics.sum('qianmo_feedback_impressions_total', labels);
    if (impressions === 0) return [];
    const observed = metrics.sum('qianmo_observed_outcomes_total', labels);
    const { bundle = '', segment = '' } = labels;
    const sums = [impressions, value, observed].map((sum) => formatCount(Math.round(sum)));
    return [[bundle, segment, ...sums, value === 0 ? '-' : (observed / value).toFixed(3)]];
  });
  if (rows.length === 0) return [];
  const columns = ['<bundle', '<segment', 'impressions', 'predicted', 'observed'];
  const note =
    'Outcomes that feedback reported, over the sum of the probabilities of the reported impressions. 1 is calibrated; the ratio is low while outcomes are late.';
  return [
    section('Calibration', note, [
      tableBlock('Calibration', {
        columns: columnsOf(...columns, 'observed / predicted'),
        rows,
      }),
    ]),
  ];
}
