/** The ranking servers: what they answer, how fast, from which bundle, how much of it explores, and what comes true. */

import { durationText } from '../../reports/record/duration-text.js';
import { formatCount, formatShare } from '../../reports/text-format.js';
import type { MetricWindow } from '../serving/metric-window.js';
import type { WatchedServer } from '../serving/serving-watch.js';
import { calibrationHtml } from './calibration-part.js';
import { facts, nothing, regionTable, sectionHtml, timeText } from './elements.js';
import type { Page, PagePart } from './page.js';

const DIGEST_LENGTH = 12;

export function servingPage(servers: readonly WatchedServer[]): Page {
  return {
    title: 'Serving',
    place: '/serving',
    parts: [
      { id: 'head', html: '<h1>Serving</h1>' },
      ...servers.flatMap((server, index) => partsOf(server, index)),
    ],
  };
}

function partsOf({ address, window, long, failure }: WatchedServer, index: number): PagePart[] {
  const trouble = failure === null ? '' : nothing(`It cannot be read: ${failure}.`);
  const figures = window === null ? '' : figuresHtml(window);
  return [
    { id: `server-${index}`, html: sectionHtml(address, figures === '' ? trouble : figures) },
    {
      id: `trouble-${index}`,
      html: figures === '' ? '' : trouble + explorationTroubleHtml(window),
      isAnnounced: true,
    },
    { id: `calibration-${index}`, html: long === null ? '' : calibrationHtml(long, address) },
    { id: `routes-${index}`, html: window === null ? '' : routesHtml(window, address) },
    { id: `refusals-${index}`, html: window === null ? '' : refusalsHtml(window, address) },
  ];
}

function figuresHtml(window: MetricWindow): string {
  const ready = window.present('qianmo_server_processes', { state: 'ready' });
  const wanted = window.present('qianmo_server_processes', { state: 'wanted' });
  const decided = window.counted('qianmo_decided_slots_total');
  const scored = window.counted('qianmo_scored_candidates_total');
  const explored = window.counted('qianmo_explored_slots_total');
  const unknown = window.counted('qianmo_unknown_adgroups_total');
  return (
    facts([
      ...(wanted === 0 ? [] : [[`${ready} of ${wanted}`, 'processes ready'] as const]),
      [rateText(window, window.counted('qianmo_requests_total')), 'requests', spanText(window)],
      [formatCount(window.present('qianmo_requests_waiting')), 'requests wait'],
      [shareText(explored, decided), 'of decided places explored'],
      [shareText(unknown, scored), 'of candidates unknown'],
      [formatCount(window.present('qianmo_bundle_swaps_total')), 'bundles swapped'],
    ]) + bundlesHtml(window)
  );
}

function bundlesHtml(window: MetricWindow): string {
  const bundles = window.labelsOf('qianmo_bundle_info').map(({ role = '', bundle = '' }) => {
    return `<b>${role === 'canary' ? 'canary' : 'stable'}</b> ${digestHtml(bundle)}`;
  });
  const swappedSeconds = window.present('qianmo_last_bundle_swap_timestamp_seconds');
  const since = swappedSeconds === 0 ? '' : `, since ${timeText(swappedSeconds * 1_000)} UTC`;
  return bundles.length === 0 ? '' : `<p>Bundle: ${bundles.join(', ')}${since}</p>`;
}

/** A digest has no letter that HTML would read, and another text is not shown. */
function digestHtml(digest: string): string {
  return /^[0-9a-f]+$/.test(digest) ? `<code>${digest.slice(0, DIGEST_LENGTH)}</code>` : 'unnamed';
}

function explorationTroubleHtml(window: MetricWindow | null): string {
  return window !== null && window.present('qianmo_exploration_failed') > 0
    ? nothing('Requests are ranked without exploration, because its state fails.')
    : '';
}

function routesHtml(window: MetricWindow, address: string): string {
  const rows = window.valuesOf('qianmo_requests_total', 'route').flatMap((route) => {
    const count = window.counted('qianmo_requests_total', { route });
    if (count === 0) return [];
    const failed = ['4xx', '5xx'].map((status) =>
      shareText(window.counted('qianmo_requests_total', { route, status }), count),
    );
    return [
      [
        route,
        formatCount(count),
        window.durationMs === null ? '-' : rateText(window, count),
        ...[0.5, 0.99].map((share) =>
          secondsText(window.quantile('qianmo_request_seconds', { route }, share)),
        ),
        ...failed,
      ],
    ];
  });
  if (rows.length === 0) return nothing(`No requests ${spanText(window)}.`);
  const table = regionTable({
    label: `Requests by route, ${address}`,
    columns: [
      ['route', 'text'],
      ['requests'],
      ['rate'],
      ['median'],
      ['99th percentile'],
      ['status 4xx'],
      ['status 5xx'],
    ],
    rows,
  });
  return sectionHtml('Requests by route', table, `Counted ${spanText(window)}.`);
}

function refusalsHtml(window: MetricWindow, address: string): string {
  const rows = window.valuesOf('qianmo_requests_refused_total', 'reason').flatMap((reason) => {
    const count = window.counted('qianmo_requests_refused_total', { reason });
    return count === 0 ? [] : [[reason, formatCount(count)]];
  });
  if (rows.length === 0) return '';
  const table = regionTable({
    label: `Refused requests, ${address}`,
    columns: [['reason', 'text'], ['requests']],
    rows,
  });
  return sectionHtml('Refused requests', table, `Counted ${spanText(window)}.`);
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

function shareText(part: number, whole: number): string {
  return whole === 0 ? '-' : formatShare(part / whole);
}

/** Histograms know no time better than to their buckets. */
function secondsText(seconds: number | null): string {
  return seconds === null ? '-' : `${Number((seconds * 1_000).toPrecision(2))} ms`;
}
