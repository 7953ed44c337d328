/** Pages of adgroups: of every segment of an evaluation, and with the answers of ranking servers. */

import { expect, it, test, onTestFinished } from 'vitest';
import { AdgroupPages } from '../../../coordinator/dashboard/adgroup-page.js';
import { partsHtml } from '../../../coordinator/dashboard/page.js';
import { REPORT_FILE } from '../../../coordinator/scoring/evaluation-report.js';
import { TEST_LOGITS_KEY } from '../../../coordinator/scoring/test-logits.js';
import { systemClock } from '../../../shared/base/clock.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import { evaluatedOutput } from '../../fixtures/evaluation/evaluated-runs.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';
import { httpReceiver } from '../../fixtures/tracking/http-receiver.js';

const taskStore = tinyTaskStore({ taskCount: 60, counts: true });

async function htmlOf(
  output: ObjectStore,
  query: Record<string, string>,
  pages = new AdgroupPages(null, systemClock),
): Promise<string> {
  return partsHtml(await pages.page('r', output, new URLSearchParams(query)));
}

it('reads an evaluation once, and again when its report was written anew', async () => {
  // Seen to fail: without what is kept, and with what is kept for ever.
  const store = await evaluatedOutput('near', { store: taskStore });
  const reads: string[] = [];
  const get = store.get.bind(store);
  store.get = (key, byteCountMax) => {
    reads.push(key);
    return get(key, byteCountMax);
  };
  const pages = new AdgroupPages(null, systemClock);
  const name = /<a href="[^"]*[?;]name=([^"&]+)"/.exec(await htmlOf(store, {}, pages))?.[1] ?? '';
  // The bias alone is personal.
  expect(await htmlOf(store, { name }, pages)).toContain('>level<');
  expect(reads.filter((key) => key === TEST_LOGITS_KEY)).toHaveLength(1);
  const report = await store.get(REPORT_FILE);
  await systemClock.sleep(5);
  await store.put(REPORT_FILE, report?.bytes ?? new Uint8Array(), { kind: 'always' });
  await htmlOf(store, {}, pages);
  expect(reads.filter((key) => key === TEST_LOGITS_KEY)).toHaveLength(2);
});

const SERVED = {
  ...{ adgroup: 'a/b\u001fc', impressions: 40, rewards: 3, open: 10, firstMs: 86_400_000 },
  served: { impressions: 50, explored: 10, propensities: 30 },
  all: { impressions: 200, explored: 20, propensities: 150 },
};

test.each([
  // 50 of 200, 10 of 50, 30 over 50, 3 over 40.
  [
    200,
    SERVED,
    '<td>50</td><td>25 %</td><td>20 %</td><td>0.600</td><td>0.0750</td><td>40</td><td class="text">1970-01-02 00:00:00</td>',
  ],
  [404, {}, 'unknown: it does not explore'],
  [401, {}, 'unknown: it demands another token'],
  [503, {}, 'unknown: it answers with status 503'],
  [200, { served: {} }, 'unknown: its answer is not that of a ranking server'],
])('shows what a server says that answers with %d', async (status, body, expected) => {
  const server = await httpReceiver(() => ({ status, body }));
  const addresses = [`${server.url}/ads/ranking/`];
  const pages = new AdgroupPages({ addresses, token: 'a-token' }, systemClock);
  onTestFinished(() => server.close());
  const html = await htmlOf(new MemoryObjectStore(), { name: SERVED.adgroup }, pages);
  expect(html).toContain(expected);
  const asked = server.received.map(({ path, headers }) => [path, headers.authorization]);
  expect(asked).toEqual([['/ads/ranking/v1/exploration/a%2Fb%1Fc', 'Bearer a-token']]);
});
