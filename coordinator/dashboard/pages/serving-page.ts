/** The ranking servers: requests, latency, bundles, exploration, and calibration. */

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
} from '../../reports/document/document.js';
import { durationText, formatCount, formatPart, timeText } from '../../reports/document/format.js';
import { calibrationsIn } from '../serving/calibration.js';
import type { MetricWindow } from '../serving/metric-window.js';
import type { WatchedServer } from '../serving/serving-watch.js';
import { announcedPart, headPart, part, type Page, type PagePart } from './page.js';

const DIGEST_LENGTH = 12;

export function servingPage(servers: readonly WatchedServer[]): Page {
  return {
    title: 'Serving',
    place: '/serving',
    parts: [headPart('Serving'), ...servers.flatMap(serverParts)],
  };
}

function serverParts({ address, window, long, failure }: WatchedServer, index: number): PagePart[] {
  const trouble = failure === null ? [] : [absence(`It cannot be read: ${failure}.`)];
  const blocks = window === null ? trouble : [...serverFacts(window), ...bundles(window)];
  return [
    part(`server-${index}`, section(address, '', blocks)),
    announcedPart(
      `trouble-${index}`,
      ...(window === null ? [] : [...trouble, ...explorationTrouble(window)]),
    ),
    part(`calibration-${index}`, ...(long === null ? [] : calibration(long, address))),
    part(`routes-${index}`, ...(window === null ? [] : [routes(window, address)])),
    part(`refusals-${index}`, ...(window === null ? [] : refusals(window, address))),
  ];
}

function serverFacts(window: MetricWindow): Block[] {
  const ready = window.present('qianmo_server_processes', { state: 'ready' });
  const wanted = window.present('qianmo_server_processes', { state: 'wanted' });
  const decided = window.counted('qianmo_decided_slots_total');
  const scored = window.counted('qianmo_scored_candidates_total');
  const explored = window.counted('qianmo_explored_slots_total');
  const unknown = window.counted('qianmo_unknown_adgroups_total');
  const processes: Fact[] = wanted === 0 ? [] : [[`${ready} of ${wanted}`, 'processes ready']];
  return [
    factsBlock(
      ...processes,
      [rateText(window, window.counted('qianmo_requests_total')), 'requests', spanText(window)],
      [formatCount(window.present('qianmo_requests_waiting')), 'requests wait'],
      [formatPart(explored, decided), 'of decided places explored'],
      [formatPart(unknown, scored), 'of candidates unknown'],
      [formatCount(window.present('qianmo_bundle_swaps_total')), 'bundles swapped'],
    ),
  ];
}

function bundles(window: MetricWindow): Block[] {
  const named = window.labelsOf('qianmo_bundle_info').flatMap(({ role, bundle = '' }): Piece[] => [
    { text: role === 'canary' ? ' canary ' : ' stable ', style: 'strong' },
    { text: bundle.slice(0, DIGEST_LENGTH) || 'unnamed', style: 'code' },
  ]);
  const swappedSeconds = window.present('qianmo_last_bundle_swap_timestamp_seconds');
  const since = swappedSeconds === 0 ? '' : `, since ${timeText(swappedSeconds * 1_000)} UTC`;
  return named.length === 0 ? [] : [textBlock(['Bundle:', ...named, since])];
}

function explorationTrouble(window: MetricWindow): Block[] {
  return window.present('qianmo_exploration_failed') > 0
    ? [absence('Requests are ranked without exploration, because its state fails.')]
    : [];
}

function routes(window: MetricWindow, address: string): Block {
  const rows = window.valuesOf('qianmo_requests_total', 'route').flatMap((route) => {
    const count = window.counted('qianmo_requests_total', { route });
    if (count === 0) return [];
    const quantiles = [0.5, 0.99].map((share) =>
      secondsText(window.quantile('qianmo_request_seconds', { route }, share)),
    );
    const failed = ['4xx', '5xx'].map((status) =>
      formatPart(window.counted('qianmo_requests_total', { route, status }), count),
    );
    const rate = window.durationMs === null ? '-' : rateText(window, count);
    return [[route, formatCount(count), rate, ...quantiles, ...failed]];
  });
  if (rows.length === 0) return absence(`No requests ${spanText(window)}.`);
  const columns = columnsOf(
    ...['<route', 'requests', 'rate', 'median', '99th percentile', 'status 4xx', 'status 5xx'],
  );
  return section('Requests by route', `Counted ${spanText(window)}.`, [
    tableBlock(`Requests by route, ${address}`, { columns, rows }),
  ]);
}

function refusals(window: MetricWindow, address: string): Block[] {
  const rows = window.valuesOf('qianmo_requests_refused_total', 'reason').flatMap((reason) => {
    const count = window.counted('qianmo_requests_refused_total', { reason });
    return count === 0 ? [] : [[reason, formatCount(count)]];
  });
  if (rows.length === 0) return [];
  const table = { columns: columnsOf('<reason', 'requests'), rows };
  return [
    section('Refused requests', `Counted ${spanText(window)}.`, [
      tableBlock(`Refused requests, ${address}`, table),
    ]),
  ];
}

/** Whether probabilities come true, since the start of the server and since an earlier reading. */
function calibration(
  { sinceStart, lately }: NonNullable<WatchedServer['long']>,
  address: string,
): Block[] {
  if (sinceStart.labelsOf('qianmo_predicted_outcomes_total').length === 0) return [];
  const lateMs = lately?.durationMs ?? null;
  const rows = [
    ...(lately === null || lateMs === null
      ? []
      : calibrationRows(lately, `last ${durationText(lateMs)}`)),
    ...calibrationRows(sinceStart, 'since the start'),
  ];
  if (rows.length === 0)
    return [section('Calibration', '', [absence('No feedback has reported an impression yet.')])];
  const columns = columnsOf(
    ...['<bundle', '<segment', '<counted', 'impressions', 'predicted', 'observed'],
    ...['observed / predicted', '95 % interval'],
  );
  return [
    section(
      'Calibration',
      'Outcomes that feedback reported, over the sum of the probabilities of the reported impressions. 1 is calibrated; the ratio is low while outcomes are late.',
      [tableBlock(`Calibration, ${address}`, { columns, rows })],
    ),
  ];
}

function calibrationRows(window: MetricWindow, span: string): string[][] {
  return calibrationsIn(window).map(
    ({ bundle, segment, impressions, predicted, observed, ratio }) => [
      ...[bundle, segment, span, formatCount(impressions), sumText(predicted), sumText(observed)],
      ratio === null ? '-' : ratio.value.toFixed(3),
      ratio === null ? '-' : `${ratio.low.toFixed(3)} to ${ratio.high.toFixed(3)}`,
    ],
  );
}

function sumText(sum: number): string {
  return sum < 100 ? String(Number(sum.toPrecision(3))) : formatCount(sum);
}

function spanText({ durationMs }: MetricWindow): string {
  return durationMs === null
    ? 'since the server started'
    : `in the last ${durationText(durationMs)}`;
}

function rateText({ durationMs }: MetricWindow, count: number): string {
  if (durationMs === null) return formatCount(count);
  const perSecond = count / (durationMs / 1_000);
  return `${perSecond < 10 ? perSecond.toFixed(1) : formatCount(perSecond)}/s`;
}

/** Histograms are as exact as their buckets. */
function secondsText(seconds: number | null): string {
  return seconds === null ? '-' : `${Number((seconds * 1_000).toPrecision(2))} ms`;
}
