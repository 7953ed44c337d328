import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, test } from 'vitest';
import { withMetricsTable } from '../../../infra/cli/reference-pages.js';
import { ProcessesMetrics } from '../../../infra/library/serving-metrics.js';
import { systemClock } from '../../../shared/base/clock.js';
import { metricUpdatesOf, type StampedEventSink } from '../../../shared/events/run-events.js';
import { METRIC_NAMES, type MetricName } from '../../../shared/metrics/metric-definitions.js';
import {
  countsIn,
  expositionOf,
  mergedSnapshots,
  MetricRegistry,
} from '../../../shared/metrics/metric-registry.js';
import { serveMetrics, workersWantedIn } from '../../../shared/metrics/metrics-server.js';
import { everyEvent } from '../../fixtures/every-event.js';
import { openedOnce } from '../../fixtures/opened.js';

function linesOf(registry: MetricRegistry, name: string): string[] {
  return expositionOf(registry.snapshot())
    .split('\n')
    .filter((line) => line.startsWith(name));
}

describe('metrics', () => {
  it('are written as Prometheus reads them, buckets as sums', () => {
    const registry = new MetricRegistry('worker');
    for (const seconds of [0.002, 0.003, 0.0031, 400])
      registry.observe('qianmo_job_seconds', {}, seconds);
    const lines = linesOf(registry, 'qianmo_job_seconds');
    // 0.002 and 0.003 are at most 0.003, 0.0031 is at most 0.01, 400 is above all bounds.
    expect(lines.slice(0, 2)).toEqual([
      'qianmo_job_seconds_bucket{le="0.003"} 2',
      'qianmo_job_seconds_bucket{le="0.01"} 3',
    ]);
    expect(lines.slice(-4)).toEqual([
      'qianmo_job_seconds_bucket{le="300"} 3',
      'qianmo_job_seconds_bucket{le="+Inf"} 4',
      'qianmo_job_seconds_sum 400.0081',
      'qianmo_job_seconds_count 4',
    ]);
    expect(expositionOf(registry.snapshot())).toContain(
      '# HELP qianmo_job_seconds Computing time of a job.\n# TYPE qianmo_job_seconds histogram\n',
    );
  });

  it('escape values of labels, and write numbers that are not finite', () => {
    const registry = new MetricRegistry('coordinator');
    registry.set('qianmo_run_info', { run: 'a "b"\\\nc' }, 1);
    registry.set('qianmo_query_loss', {}, Number.NaN);
    registry.set('qianmo_support_loss', {}, Number.NEGATIVE_INFINITY);
    const text = expositionOf(registry.snapshot());
    expect(text).toContain('qianmo_run_info{run="a \\"b\\"\\\\\\nc"} 1\n');
    expect(text).toContain('qianmo_query_loss NaN\n');
    expect(text).toContain('qianmo_support_loss -Inf\n');
  });

  it('have a bounded number of series', () => {
    const registry = new MetricRegistry('server');
    for (let route = 0; route < 300; route += 1)
      registry.add('qianmo_requests_total', { route: `/${route}`, status: '2xx' });
    const lines = linesOf(registry, 'qianmo_requests_total');
    expect(lines).toHaveLength(201);
    expect(lines.at(-1)).toBe('qianmo_requests_total{route="other",status="other"} 100');
  });

  it('of several processes become one: sums, and the largest gauge', () => {
    const [one, other] = [new MetricRegistry('server'), new MetricRegistry('server')];
    for (const [registry, count] of [
      [one, 3],
      [other, 4],
    ] as const) {
      registry.add('qianmo_requests_total', { route: '/v1/rank', status: '2xx' }, count);
      registry.observe('qianmo_request_seconds', { route: '/v1/rank' }, count / 1000);
      registry.set('qianmo_requests_waiting', {}, count);
      registry.set('qianmo_exploration_failed', {}, count - 3);
      registry.add('qianmo_bundle_swaps_total', {});
    }
    const snapshots = [one.snapshot(), other.snapshot()];
    const text = expositionOf(mergedSnapshots(snapshots));
    expect(text).toContain('qianmo_requests_total{route="/v1/rank",status="2xx"} 7\n');
    expect(text).toContain('qianmo_request_seconds_bucket{route="/v1/rank",le="0.005"} 2\n');
    expect(text).toContain('qianmo_request_seconds_bucket{route="/v1/rank",le="0.0025"} 0\n');
    expect(text).toContain('qianmo_request_seconds_sum{route="/v1/rank"} 0.007\n');
    expect(text).toContain('qianmo_requests_waiting 7\n');
    expect(text).toContain('qianmo_exploration_failed 1\n');
    // Every process swaps the same bundle.
    expect(text).toContain('qianmo_bundle_swaps_total 1\n');
    const names = countsIn(mergedSnapshots(snapshots)).map(({ name }) => name);
    expect(names).toContain('qianmo_requests_total');
    expect(names).not.toContain('qianmo_requests_waiting');
  });

  it('follow the events of a run', () => {
    const registry = new MetricRegistry('coordinator');
    const tell: StampedEventSink = (event) => registry.apply(metricUpdatesOf(event));
    for (const event of everyEvent) tell({ epochMs: 2_500, ...event });
    const text = expositionOf(registry.snapshot());
    // The sample: outer step 1 began at 1,000 ms, used 4 jobs of 64 tasks, and computed for 40 ms.
    expect(text).toContain('qianmo_outer_step_seconds_sum 1.5\n');
    expect(text).toContain('qianmo_outer_step_phase_seconds_total{phase="compute"} 0.04\n');
    expect(text).toContain('qianmo_jobs_total 4\n');
    expect(text).toContain('qianmo_tasks_total 64\n');
    expect(text).toContain('qianmo_last_outer_step_timestamp_seconds 2.5\n');
    expect(text).toContain('qianmo_results_refused_total{reason="forged"} 1\n');
    expect(text).toContain('qianmo_job_retries_total{cause="lost"} 1\n');
    expect(text).toContain('qianmo_redis_outages_total 2\n');
    // A local worker counts its own jobs.
    expect(text).not.toContain('qianmo_worker_jobs_total');
  });

  it('say that workers are awaited until the run gets on, and when it got on last', () => {
    const registry = new MetricRegistry('coordinator');
    const tell: StampedEventSink = (event) => registry.apply(metricUpdatesOf(event));
    const gauges = (): string[] =>
      ['qianmo_last_progress_timestamp_seconds ', 'qianmo_workers_awaited '].flatMap((name) =>
        linesOf(registry, name).map((line) => line.slice(name.length)),
      );
    tell({ kind: 'run-started', runId: 'r', outerStep: 0, outerSteps: 9, epochMs: 1_000 });
    expect(gauges()).toEqual(['1', '0']);
    tell({ kind: 'workers-missing', openJobCount: 4, epochMs: 2_000 });
    expect(gauges()).toEqual(['1', '1']);
    tell({ kind: 'progress', stage: 'evaluate', done: 1, total: 2, epochMs: 3_000 });
    expect(gauges()).toEqual(['3', '0']);
    tell({ kind: 'workers-missing', openJobCount: 4, epochMs: 4_000 });
    tell({ kind: 'checkpoint', outerStep: 1, address: 'a', digest: 'd', epochMs: 4_500 });
    expect(gauges()).toEqual(['3', '1']);
    const counts = { outerStep: 1, admittedJobCount: 1, jobCount: 4 };
    tell({ kind: 'results-admitted', ...counts, epochMs: 4_800 });
    expect(gauges()).toEqual(['4.8', '0']);
    tell({ kind: 'workers-missing', openJobCount: 4, epochMs: 4_900 });
    tell({ kind: 'run-failed', failure: 'interrupted', reason: 'asked', epochMs: 5_000 });
    expect(gauges()).toEqual(['4.8', '0']);
  });
});

const FOLDERS = ['infra/deploy/grafana', 'infra/deploy/prometheus'];
const files = FOLDERS.flatMap((folder) => readdirSync(folder).map((name) => join(folder, name)));

it.each(files)('%s names metrics that are defined', (path) => {
  const text = readFileSync(path, 'utf8');
  const names = [...text.matchAll(/(?<![:\w])qianmo_\w+/g)].map(([name]) =>
    name.replace(/_(bucket|sum|count)$/, ''),
  );
  expect(names.length).toBeGreaterThan(0);
  expect(names.filter((name) => !METRIC_NAMES.some((each) => each === name))).toEqual([]);
});

it('alerts lead to sections of the runbook', () => {
  const headings = readFileSync('infra/docs/runbook.md', 'utf8').matchAll(/^## (.+)$/gm);
  const anchors = [...headings].map(([, text = '']) =>
    text
      .toLowerCase()
      .replaceAll(/[^\w -]/g, '')
      .replaceAll(' ', '-'),
  );
  const alerts = readFileSync('infra/deploy/prometheus/alerts.yml', 'utf8');
  const links = [...alerts.matchAll(/runbook_url: infra\/docs\/runbook\.md#(\S+)/g)];
  expect(links).toHaveLength([...alerts.matchAll(/- alert:/g)].length);
  expect(links.map(([, anchor]) => anchor).filter((each) => !anchors.includes(each ?? ''))).toEqual(
    [],
  );
});

type CountsByPid = Readonly<Record<number, number>>;

/** Reads a counter of all processes, each of which has counted so much. */
function readerOf(wanted: MetricName): (counts: CountsByPid) => Promise<number | undefined> {
  const metrics = new ProcessesMetrics({ clock: systemClock, version: '0' });
  return async (counts) => {
    const said = Object.entries(counts).map(
      ([pid, value]) => [Number(pid), [{ name: wanted, labels: {}, value }]] as const,
    );
    const snapshot = await metrics.snapshot({
      metrics: () => Promise.resolve(new Map(said.map(([pid, values]) => [pid, [...values]]))),
      counts: { wanted: said.length, ready: said.length },
      pids: said.map(([pid]) => pid),
    });
    return snapshot.find(({ name }) => name === wanted)?.value;
  };
}

test.each(['qianmo_bundle_refusals_total', 'qianmo_label_failures_total'] as const)(
  '%s grows at the first look that fails after the processes were started again',
  async (name) => {
    const read = readerOf(name);
    expect(await read({ 1: 60, 2: 60 })).toBe(120);
    expect(await read({ 3: 0, 4: 0 })).toBe(120);
    expect(await read({ 3: 1, 4: 0 })).toBe(121);
    expect(await read({ 3: 50, 5: 2 })).toBe(172);
  },
);

const registry = new MetricRegistry('coordinator');
const parts = {
  snapshot: () => registry.snapshot(),
  workersWanted: () => workersWantedIn(registry),
};
const server = openedOnce(() => serveMetrics(parts, { host: '127.0.0.1', port: 0 }));

it('answers a scrape and an autoscaler, whatever the name of the host', async () => {
  registry.set('qianmo_workers_wanted', { device: 'cpu' }, 3);
  const headers = { host: 'coordinator.training.svc' };
  const scrape = await fetch(`${server.url}/metrics?x=1`, { headers });
  expect(scrape.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
  expect(await scrape.text()).toContain('qianmo_workers_wanted{device="cpu"} 3\n');
  const wanted = await fetch(`${server.url}/workers-wanted`, { headers });
  expect(await wanted.json()).toEqual({ cpu: 3, gpu: 0 });
});

it('refuses other methods and paths, and a port that is taken', async () => {
  const posted = await fetch(`${server.url}/metrics`, { method: 'POST', body: '{}' });
  expect([posted.status, posted.headers.get('allow')]).toEqual([405, 'GET, HEAD']);
  expect((await fetch(`${server.url}/`)).status).toBe(404);
  const { port } = new URL(server.url);
  await expect(
    serveMetrics({ snapshot: () => [] }, { host: '127.0.0.1', port: Number(port) }),
  ).rejects.toMatchObject({ kind: 'environment' });
});

const PAGE = 'infra/docs/operation/metrics.md';

it('the page of metrics has their table: npm run docs:reference', () => {
  const page = readFileSync(PAGE, 'utf8');
  expect(withMetricsTable(page) === page, `${PAGE} is not in step`).toBe(true);
});
