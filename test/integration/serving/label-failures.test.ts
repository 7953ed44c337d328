/** The alert of a label that cannot be read looks at a counter, which goes on while that lasts, though the warning comes once. */

import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { serveRankings } from '../../../infra/library/index.js';
import { systemClock } from '../../../shared/base/clock.js';
import type { StampedEvent } from '../../../shared/events/run-events.js';
import { FileObjectStore } from '../../../shared/storage/file-object-store.js';
import { exportTwoBundles } from '../../fixtures/serving/served-export.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

const POLLS = 5;

test('every look at a label that fails is counted, and told once', async () => {
  const room = await temporaryFolder();
  const folder = room.path;
  await exportTwoBundles(new FileObjectStore({ folder }));
  const told: StampedEvent[] = [];
  const service = await serveRankings(
    { bundle: folder, port: 0, metricsPort: 0, pollSeconds: 0.05 },
    { onEvent: (event) => told.push(event) },
  );
  const failures = async (): Promise<number> =>
    (await service.metrics()).find(({ name }) => name === 'qianmo_label_failures_total')?.value ??
    NaN;
  try {
    expect(await failures()).toBe(0);
    const label = join(folder, 'labels/latest.json');
    const whole = await readFile(label);
    await writeFile(label, 'half of a');
    while (!((await failures()) >= POLLS)) await systemClock.sleep(20);
    expect(told.filter(({ kind }) => kind === 'label-unread')).toHaveLength(1);
    await writeFile(label, whole);
    await systemClock.sleep(500);
    const last = await failures();
    await systemClock.sleep(500);
    expect(await failures()).toBe(last);
  } finally {
    await service.close();
    await room.remove();
  }
});
