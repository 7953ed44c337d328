/** The page of ranking servers, from metrics that are read over HTTP. */

import { expect, it } from 'vitest';
import { samplesIn } from '../../../coordinator/dashboard/serving-page.js';
import { MetricRegistry } from '../../../shared/metrics/metric-registry.js';
import { serveMetrics } from '../../../shared/metrics/metrics-server.js';
import { openedOnce } from '../../fixtures/opened.js';

const registry = new MetricRegistry('server');
const place = { host: '127.0.0.1', port: 0 };
const server = openedOnce(() => serveMetrics({ snapshot: () => registry.snapshot() }, place));

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
