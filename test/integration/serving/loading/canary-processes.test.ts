/** `qianmo serve --canary --processes`: a key is answered by one bundle, whichever process has the connection. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { moveLabel } from '../../../../shared/bundle/bundle-labels.js';
import { FileObjectStore } from '../../../../shared/storage/file-object-store.js';
import { isOfCanary } from '../../../../worker/serving/server/bundle-keeper.js';
import { commandRoom, type CommandRoom } from '../../../fixtures/commands/command-room.js';
import { exportTwoBundles, posted, RANKED } from '../../../fixtures/serving/served-export.js';

const SHARE = 0.3;
const KEYS = Array.from({ length: 12 }, (_, user) => `user ${user}`);
/** More than processes; the parent hands connections out in turn. */
const ASKED = 4;

let room: CommandRoom;
let digests: readonly [string, string];
beforeAll(async () => {
  room = await commandRoom();
  const store = new FileObjectStore({ folder: room.path('bundles') });
  digests = await exportTwoBundles(store);
  await moveLabel(store, 'canary', digests[1]);
});
afterAll(() => room.remove());

interface Reported {
  readonly processes: { readonly place: number };
  readonly canary: { readonly bundle: string; readonly share: number };
  readonly requests: { readonly byBundle: Readonly<Record<string, { readonly answered: number }>> };
}

test('two processes divide keys between the same two bundles', async () => {
  const [stable, canary] = digests;
  const command = room.start([
    ...['serve', '--bundle', 'bundles', '--port', '0', '--format', 'json', '--processes', '2'],
    ...['--canary', 'bundles@canary', '--canary-share', String(SHARE)],
  ]);
  const [line] = await command.printed(/^\{.*\}$/m);
  const { url } = JSON.parse(line) as { readonly url: string };
  const expectedOf = (key: string): string => (isOfCanary(canary, SHARE, key) ? canary : stable);
  expect(new Set(KEYS.map(expectedOf)).size).toBe(2);
  for (const requestKey of KEYS)
    for (let asked = 0; asked < ASKED; asked += 1) {
      const request = { ...RANKED, requestKey };
      const { status, body } = await posted(`${url}/v1/rank`, request, { connection: 'close' });
      expect(status, JSON.stringify(body)).toBe(200);
      expect(body['bundle'], requestKey).toBe(expectedOf(requestKey));
      expect(body['canary']).toBe(body['bundle'] === canary ? true : undefined);
    }

  // A report is of its own process.
  const reports = new Map<number, Reported>();
  while (reports.size < 2) {
    const answer = await fetch(`${url}/v1/bundle`, { headers: { connection: 'close' } });
    const report = (await answer.json()) as Reported;
    reports.set(report.processes.place, report);
  }
  const answered = { [stable]: 0, [canary]: 0 };
  for (const { canary: reported, requests } of reports.values()) {
    expect(reported).toMatchObject({ bundle: canary, share: SHARE });
    for (const digest of digests) {
      const own = requests.byBundle[digest]?.answered ?? 0;
      expect(own).toBeGreaterThan(0);
      answered[digest] = answered[digest]! + own;
    }
  }
  const ofCanary = KEYS.filter((key) => expectedOf(key) === canary).length;
  expect(answered).toEqual({
    [stable]: ASKED * (KEYS.length - ofCanary),
    [canary]: ASKED * ofCanary,
  });
  command.signal('SIGTERM');
  expect((await command.ended).exitCode).toBe(0);
});
