/**
 * A bundle of which one byte differs, in any of its files, or one is cut off, and a running server that should swap to
 * it: it goes on with the bundle before, says so once, and no answer has a wrong score.
 */

import { readFileSync } from 'node:fs';
import { rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { randomStream } from '../../../../shared/base/random.js';
import { moveLabel } from '../../../../shared/bundle/bundle-store.js';
import {
  checkedScore,
  mappableBundles,
  mappedServer,
} from '../../../fixtures/serving/mapped-server.js';

/** Requests that are under way while the label moves. */
const ASKED = 3;

const { bundles, room } = await mappableBundles();
const server = await mappedServer(bundles);
afterAll(async () => {
  await server.close();
  await room.remove();
});

type Damage = (bytes: Uint8Array) => Uint8Array;

const damages: readonly (readonly [name: string, damage: Damage])[] = [
  [
    'one byte changed',
    (bytes) => {
      const place = randomStream(bytes.length, 'the damaged byte').below(bytes.length);
      return bytes.map((byte, index) => (index === place ? byte ^ 0x10 : byte));
    },
  ],
  ['its last byte cut off', (bytes) => bytes.subarray(0, -1)],
];

/** The server's words about the second bundle while the file of this key is damaged. */
async function refusalsWith(key: string, damage: Damage): Promise<readonly string[]> {
  const path = join(room.path, key);
  const whole = readFileSync(path);
  // Another file takes the name: one that is mapped is not written to.
  await rename(path, `${path}.kept`);
  await writeFile(path, damage(whole));
  const [first, second] = bundles.digests;
  const toldBefore = server.events.length;
  await moveLabel(bundles.objects, 'latest', second);
  const [, ...named] = await Promise.all([
    server.keeper.poll(),
    ...Array.from({ length: ASKED }, () => checkedScore(server.url, bundles)),
  ]);
  // A label that has not moved is not read again.
  await server.keeper.poll();
  named.push(await checkedScore(server.url, bundles));
  expect(named, key).toEqual(named.map(() => first));
  const told = server.events.slice(toldBefore);
  await rm(path);
  await rename(`${path}.kept`, path);
  await moveLabel(bundles.objects, 'latest', first);
  await server.keeper.poll();
  return told.map((event) => (event.kind === 'bundle-refused' ? event.reason : event.kind));
}

describe.each(damages)('a bundle with %s', (_, damage) => {
  test('in any of its arrays is refused by the name of the file', async () => {
    const filesOf = (place: 0 | 1): string[] =>
      bundles.loaded[place].manifest.arrays.flatMap(({ files }) =>
        files.map(({ sha256 }) => sha256),
      );
    // A file that the bundle in use has too is mapped already, and not read again.
    const shared = new Set(filesOf(0));
    const own = [...new Set(filesOf(1))].filter((sha256) => !shared.has(sha256));
    expect(own.length).toBeGreaterThan(1);
    for (const sha256 of own) {
      const refusals = await refusalsWith(`blobs/${sha256}`, damage);
      expect(refusals, sha256).toHaveLength(1);
      expect(refusals[0]).toContain(sha256);
    }
  });

  test('in its manifest is refused', async () => {
    const keys = await bundles.objects.list('');
    const manifests = keys.filter((key) => key.includes(bundles.digests[1]));
    expect(manifests).toHaveLength(1);
    const refusals = await refusalsWith(manifests[0]!, damage);
    expect(refusals).toHaveLength(1);
    expect(refusals[0]).toContain(bundles.digests[1]);
  });
});

test('the bundle is served once it is whole', async () => {
  await moveLabel(bundles.objects, 'latest', bundles.digests[1]);
  await server.keeper.poll();
  expect(await checkedScore(server.url, bundles)).toBe(bundles.digests[1]);
});
