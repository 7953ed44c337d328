/** The page of ranking servers, from metrics that are read over HTTP. */

import { afterEach, beforeEach, expect, it } from 'vitest';
import { partsHtml } from '../../../coordinator/dashboard/page.js';
import { samplesIn, servingPage } from '../../../coordinator/dashboard/serving-page.js';
import { systemClock } from '../../../shared/base/clock.js';
import { MetricRegistry } from '../../../shared/metrics/metric-registry.js';
import { serveMetrics } from '../../../shared/metrics/metrics-server.js';

let registry: MetricRegistry;
let server: Awaited<ReturnType<typeof serveMetrics>>;
beforeEach(async () => {
  registry = new MetricRegistry('server');
  const place = { host: '127.0.0.1', port: 0 };
  server = await serveMetrics({ snapshot: () => registry.snapshot() }, place);
});
afterEach(() => server.close());

const html = async (): Promise<string> =>
  partsHtml(await servingPage([`${server.url}/metrics`], systemClock));

it('reads metrics as they were written, with labels of any text', async () => {
  const reason = 'a "quoted", \\n and\nbroken } text';
  registry.add('qianmo_requests_refused_total', { reason }, 3);
  registry.observe('qianmo_request_seconds', { route: 'rank' }, 0.002);
  const samples = samplesIn(await (await fetch(`${server.url}/metrics`)).text());
  const refused = { name: 'qianmo_requests_refused_total', labels: { reason }, value: 3 };
  expect(samples).toContainEqual(refused);
  const bucket = { name: 'qianmo_request_seconds_bucket', value: 1 };
  expect(samples).toContainEqual({ ...bucket, labels: { route: 'rank', le: '0.0025' } });
  expect(samples).toContainEqual({ ...bucket, labels: { route: 'rank', le: '+Inf' } });
  expect(() => samplesIn('name 1\n<html>\n')).toThrow('line 2 is no metric');
});

it('shows requests, latency, bundle, exploration and calibration since the start', async () => {
  registry.set('qianmo_bundle_info', { role: 'stable', bundle: 'ab12cd34ef56'.padEnd(64, '0') }, 1);
  // The median lies at the bound of 5 ms; of the last 1 %, all are between 0.25 and 0.5 s.
  for (const [count, seconds] of [
    [50, 0.004],
    [48, 0.008],
    [2, 0.3],
  ] as const)
    for (let request = 0; request < count; request += 1) {
      registry.observe('qianmo_request_seconds', { route: 'rank' }, seconds);
      const status = seconds === 0.3 ? '5xx' : '2xx';
      registry.add('qianmo_requests_total', { route: 'rank', status });
    }
  registry.add('qianmo_decided_slots_total', {}, 200);
  registry.add('qianmo_explored_slots_total', {}, 30);
  registry.add('qianmo_requests_refused_total', { reason: 'queue<full>' }, 2);
  const labels = { bundle: 'ab12cd34ef56', segment: 'ordered' };
  registry.add('qianmo_feedback_impressions_total', labels, 2_500);
  registry.add('qianmo_predicted_outcomes_total', labels, 500);
  registry.add('qianmo_observed_outcomes_total', labels, 600);
  const page = await html();
  expect(page).toContain('<b>100</b><span>requests</span><small>since the server started</small>');
  expect(page).toContain('<code>ab12cd34ef56</code>');
  expect(page).toContain('<b>15 %</b><span>of decided places explored</span>');
  expect(page).toMatch(
    />rank<\/th><td>100<\/td><td>5 ms<\/td><td>380 ms<\/td><td>0 %<\/td><td>2 %</,
  );
  expect(page).toContain('queue&lt;full&gt;');
  expect(page).toMatch(/>ordered<\/td><td>2,500<\/td><td>500<\/td><td>600<\/td><td>1\.200</);
});

it('says why a server has no answer', async () => {
  await server.close();
  expect(await html()).toMatch(/http:\/\/127[^ ]* cannot be read: ECONNREFUSED\./);
});
