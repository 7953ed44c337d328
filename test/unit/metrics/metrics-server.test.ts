import { expect, it } from 'vitest';
import { MetricRegistry } from '../../../shared/metrics/metric-registry.js';
import { serveMetrics, workersWantedIn } from '../../../shared/metrics/metrics-server.js';
import { openedOnce } from '../../fixtures/opened.js';

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
