/**
 * A server whose state folder is on a full disk: it ranks, acknowledges nothing that is not stored, and after a restart
 * with space has all that it acknowledged, and counts nothing twice.
 */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { FileObjectStore } from '../../../../shared/storage/file-object-store.js';
import { canMountDisks, smallDisk } from '../../../fixtures/faults/small-disk.js';
import { serveCommand, type ServedCommand } from '../../../fixtures/serving/served-command.js';
import { exportTwoBundles, posted, RANKED } from '../../../fixtures/serving/served-export.js';
import { temporaryFolder } from '../../../fixtures/temporary-folder.js';
import { openedOnce } from '../../../fixtures/opened.js';

const POLICY = {
  ...{ mode: 'active', policy: 'epsilon-greedy', slots: [1] },
  share: { kind: 'fixed', share: 0.5 },
};
/** Their text is larger than what is left of a page of the file system. */
const ROWS = Array.from({ length: 60 }, (_, row) => ({
  features: { category0: 'category0-3', category1: `category1-${row}`, bag0: [], number0: 1 },
  label: row % 2,
}));
/** Impressions that feedback is sent of. */
const SHOWN = 100;
const FULL_AFTER_MAX = 200;

const suffix = canMountDisks ? '' : ' (SKIPPED: no file system can be mounted here)';

describe.skipIf(!canMountDisks)(`a full disk of the state${suffix}`, () => {
  const room = openedOnce(temporaryFolder);
  const disk = openedOnce(() => Promise.resolve(smallDisk(2 ** 20)));
  beforeAll(async () => {
    await exportTwoBundles(new FileObjectStore({ folder: join(room.path, 'bundles') }));
    await writeFile(join(room.path, 'policy.yaml'), JSON.stringify({ exploration: POLICY }));
  });

  function served(): Promise<ServedCommand> {
    const state = join(disk.folder, 'state');
    return serveCommand(room.path, 'bundles', ['--explore', 'policy.yaml', '--state', state]);
  }

  async function explored(url: string): Promise<readonly string[] | null> {
    const { status, body } = await posted(`${url}/v1/rank`, RANKED);
    expect(status).toBe(200);
    const exploration = body['exploration'] as { readonly events: readonly string[] } | null;
    return exploration?.events ?? null;
  }

  const adapted = (url: string, adgroup: string) =>
    posted(`${url}/v1/adapt`, { adgroup, segment: 'segment0', rows: ROWS });
  const receiptOf = async (url: string, event: string, kind = 'outcome'): Promise<unknown> => {
    const { body } = await posted(`${url}/v1/feedback`, { events: [{ kind, event }] });
    return body['receipts'] ?? body['reason'];
  };
  const liveOf = async (url: string): Promise<unknown> => {
    const features = { category0: 'a', category1: 'b', bag0: [], number0: 0 };
    const candidates = ['stored', 'not stored'].map((adgroup) => ({ adgroup, features }));
    return (await posted(`${url}/v1/score`, { candidates })).body['live'];
  };

  test('takes no feedback and no rows, ranks on, and loses nothing that was acknowledged', async () => {
    const { command, url } = await served();
    const [event] = (await explored(url))!;
    // More than fit into what is left of a page of the evidence. Outcomes are logged with the decisions, impressions are not.
    const impressions: string[] = [];
    while (impressions.length < SHOWN) impressions.push(...(await explored(url))!);
    expect((await adapted(url, 'stored')).status).toBe(200);
    await disk.fill(0);
    expect(await adapted(url, 'not stored')).toMatchObject({
      ...{ status: 503, body: { reason: 'not-durable' } },
    });
    // Lines fit into what is left of a page, a few times.
    let isExploring = true;
    for (let asked = 0; isExploring && asked < FULL_AFTER_MAX; asked += 1)
      isExploring = (await explored(url)) !== null;
    expect(isExploring).toBe(false);
    expect(await receiptOf(url, event!)).toBe('not-durable');
    const acknowledged: string[] = [];
    let refused: string | null = null;
    for (const each of impressions) {
      const receipt = await receiptOf(url, each, 'impression');
      if (receipt === 'not-durable') refused = each;
      if (refused !== null) break;
      expect(receipt).toEqual(['counted']);
      acknowledged.push(each);
    }
    expect(refused).not.toBeNull();
    expect(await liveOf(url)).toEqual([0]);
    command.signal('SIGKILL');
    await command.ended;

    await disk.free();
    const again = await served();
    expect(await liveOf(again.url)).toEqual([0]);
    expect(await receiptOf(again.url, event!)).toEqual(['counted']);
    expect(await receiptOf(again.url, event!)).toEqual(['duplicate']);
    for (const each of acknowledged)
      expect(await receiptOf(again.url, each, 'impression')).toEqual(['duplicate']);
    expect(await receiptOf(again.url, refused!, 'impression')).toEqual(['counted']);
    expect((await adapted(again.url, 'not stored')).status).toBe(200);
    expect(await liveOf(again.url)).toEqual([0, 1]);
    expect(await explored(again.url)).not.toBeNull();
    await again.stop();
  });
});
