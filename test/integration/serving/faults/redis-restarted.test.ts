/**
 * A Redis that holds the evidence of a running server is killed amid feedback and started again on its data: the server
 * goes on by itself, what it acknowledged is there, and whatever is sent again counts once.
 */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { systemClock } from '../../../../shared/base/clock.js';
import { FileObjectStore } from '../../../../shared/storage/file-object-store.js';
import {
  EvidenceLedger,
  type Receipt,
} from '../../../../worker/serving/exploration/evidence-ledger.js';
import { RedisLog } from '../../../../worker/serving/state/redis-log.js';
import { settingsOf } from '../../../fixtures/decision-input.js';
import { redisForTest } from '../../../fixtures/queue/redis-for-test.js';
import { serveCommand } from '../../../fixtures/serving/served-command.js';
import { exportTwoBundles, posted } from '../../../fixtures/serving/served-export.js';
import { temporaryFolder } from '../../../fixtures/temporary-folder.js';
import { openedOnce } from '../../../fixtures/opened.js';

const POLICY = {
  ...{ mode: 'active', policy: 'epsilon-greedy', slots: [1] },
  share: { kind: 'fixed', share: 0.5 },
};
/** Adgroups whose label is a click. */
const ADGROUPS = ['task0', 'task2', 'task4', 'nobody'];
const SLATES = 60;
/** Kills amid the sending. */
const KILLS = 2;

const room = openedOnce(temporaryFolder);
const redis = openedOnce(redisForTest);
beforeAll(async () => {
  await exportTwoBundles(new FileObjectStore({ folder: join(room.path, 'bundles') }));
  await writeFile(join(room.path, 'policy.yaml'), JSON.stringify({ exploration: POLICY }));
});

interface Slate {
  readonly order: readonly number[];
  readonly exploration: { readonly events: readonly string[] } | null;
}

async function ranked(url: string): Promise<Slate> {
  const features = { category1: 'category1-1', bag0: ['bag0-1'], number0: 0.5 };
  const { status, body } = await posted(`${url}/v1/rank`, {
    context: { category0: 'category0-3' },
    candidates: ADGROUPS.map((adgroup) => ({ adgroup, features })),
    slots: 2,
  });
  // Rankings are answered whatever Redis does.
  expect(status, JSON.stringify(body)).toBe(200);
  return body as unknown as Slate;
}

/** The receipts of a slate's impressions; null where the server does not acknowledge them. */
async function receiptsOf(url: string, { exploration }: Slate): Promise<readonly string[] | null> {
  const events = (exploration?.events ?? []).map((event) => ({ kind: 'impression', event }));
  const { status, body } = await posted(`${url}/v1/feedback`, { events });
  if (status === 200) return body['receipts'] as readonly string[];
  expect({ status, reason: body['reason'] }).toEqual({ status: 503, reason: 'not-durable' });
  return null;
}

test('a Redis that is killed and started again loses nothing that was acknowledged', async () => {
  const { url, stop } = await serveCommand(room.path, 'bundles', [
    ...['--explore', 'policy.yaml', '--state', 'state', '--redis', redis.url],
    // On a busy machine, the requests that come together wait for longer than usual.
    ...['--deadline-ms', '60000'],
  ]);
  const counted = new Set<Slate>();
  const slates: Slate[] = [];
  for (let kill = 0; kill < KILLS; kill += 1) {
    const own: Slate[] = [];
    while (own.length < SLATES) own.push(await ranked(url));
    for (const { exploration } of own) expect(exploration?.events).toHaveLength(2);
    slates.push(...own);
    const sending = own.map(async (slate) => {
      const receipts = await receiptsOf(url, slate);
      if (receipts === null) return;
      expect(receipts).toEqual(['counted', 'counted']);
      counted.add(slate);
    });
    await Promise.race(sending);
    await redis.server.kill();
    await Promise.all(sending);
    // Exploration goes on with the evidence so far.
    expect((await ranked(url)).exploration?.events).toHaveLength(2);
    await redis.server.restart();
    while ((await receiptsOf(url, own[0]!)) === null);
  }
  expect(counted.size).toBeGreaterThan(0);

  for (const slate of slates) {
    const receipts = await receiptsOf(url, slate);
    if (counted.has(slate)) expect(receipts).toEqual(['duplicate', 'duplicate']);
    else expect(receipts?.filter((each) => each !== 'counted' && each !== 'duplicate')).toEqual([]);
  }
  for (const slate of slates)
    expect(await receiptsOf(url, slate)).toEqual(['duplicate', 'duplicate']);
  await stop();

  const shown = new Map<string, number>();
  for (const { order } of slates)
    for (const place of order.slice(0, 2)) {
      const adgroup = ADGROUPS[place]!;
      shown.set(adgroup, (shown.get(adgroup) ?? 0) + 1);
    }
  const { feedback } = settingsOf();
  // The server names its evidence by the address of its bundles.
  const [key] = await redis.client.keys('qianmo:{evidence:*}:log');
  const name = /\{(.*)\}/.exec(key!)![1]!;
  const log = await RedisLog.open<EvidenceLedger, Receipt[]>({
    ...{ url: redis.url, name, clock: systemClock },
    makeState: () => new EvidenceLedger(feedback),
  });
  for (const [adgroup, count] of shown) expect(log.state.evidenceOf(adgroup).open).toBe(count);
  await log.close();
});
