/**
 * `POST /v1/adapt` where a method makes its start of the rows and takes no step: the answer counts the rows, and the
 * adgroup is served what the export serves one with the same rows.
 */

import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { systemClock } from '../../../shared/base/clock.js';
import { moveLabel } from '../../../shared/bundle/bundle-labels.js';
import type { BundleServing } from '../../../shared/bundle/bundle-manifest.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import { adaptEndpoint } from '../../../worker/serving/server/endpoints/adapt.js';
import { rankingEndpoints } from '../../../worker/serving/server/endpoints/table.js';
import { LiveAdapter } from '../../../worker/serving/server/live-adapter.js';
import { exportableConfig, exportRoom, exportSource } from '../../fixtures/bundle/tiny-export.js';
import { labelledRowsOf, scoresOf } from '../../fixtures/serving/adapt-requests.js';
import { localEngine } from '../../fixtures/serving/local-engine.js';
import { posted, STORE, testServer } from '../../fixtures/serving/served-export.js';
import { liveRowsLog } from '../../fixtures/serving/whole-server.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

let room: Awaited<ReturnType<typeof temporaryFolder>>;
beforeAll(async () => {
  room = await temporaryFolder();
});
afterAll(() => room.remove());

async function exported(method: object): Promise<MemoryObjectStore> {
  const objects = new MemoryObjectStore();
  const exporting = await exportRoom(() => STORE);
  const model = {
    kind: 'deepfm',
    embeddingWidth: 3,
    hiddenWidths: [5],
    personal: ['bias', 'output'],
  };
  const serving: BundleServing = {
    adaptation: { innerRate: 0.2, innerSteps: 2 },
    served: [{ supportRowCountMin: 0, supportRowCountMax: null, blocks: 'unadapted' }],
  };
  const source = exportSource(exportableConfig(STORE, { model, method }), STORE, [
    serving,
    serving,
  ]);
  const { digest } = await exporting.exported(source, objects);
  await moveLabel(objects, 'latest', digest);
  await exporting.close();
  return objects;
}

test.each([
  [{ kind: 'encoder', innerSteps: 0 }, true],
  [{ kind: 'paml-gate' }, true],
  [{ kind: 'fomaml' }, false],
])('without steps: %j', async (method, isOnRows) => {
  const log = await liveRowsLog(join(room.path, method.kind));
  const engine = localEngine();
  const adapter = new LiveAdapter({ log, engine, clock: systemClock });
  const endpoints = [...rankingEndpoints, adaptEndpoint(adapter)];
  const served = await testServer(await exported(method), { endpoints });
  await adapter.prepare(served.keeper.current, null);
  const rows = await labelledRowsOf(0);
  const { status, body } = await posted(`${served.url}/v1/adapt`, {
    ...{ adgroup: 'newcomer', segment: 'segment0', rows },
  });
  expect(status, JSON.stringify(body)).toBe(200);
  const supportRows = isOnRows ? rows.length : 0;
  expect(body).toMatchObject({ live: true, adapted: isOnRows, evidence: { supportRows } });
  const { scores, evidence } = await scoresOf(served.url, ['task0', 'newcomer', 'nobody']);
  const [known, newcomer, unknown] = scores;
  expect(evidence.supportRows).toEqual([supportRows, supportRows, 0]);
  expect(Math.abs(newcomer! - known!)).toBeLessThan(1e-5);
  expect(Math.abs(newcomer! - unknown!) > 1e-3).toBe(isOnRows);
  await served.server.drain();
  await log.close();
  await engine.close();
});
