/**
 * A canary beside the bundle in use: a key's requests go to one of the two, every answer is that of the bundle it names,
 * and a canary that is damaged or gone leaves all requests to the bundle in use.
 */

import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { moveLabel } from '../../../shared/bundle/bundle-store.js';
import { isOfCanary } from '../../../worker/serving/server/bundle-keeper.js';
import {
  posted,
  RANKED,
  selfCheckCandidates,
  testServer,
  twoBundles,
  type TestServer,
} from '../../fixtures/serving/served-export.js';
import { codeOf } from '../../../test/fixtures/told.js';

/** Of the self-check rows. */
const ROWS = 20;

const bundles = await twoBundles();
const [stable, canary] = bundles.digests;
let closing: TestServer['server'][] = [];
beforeEach(() => moveLabel(bundles.objects, 'canary', canary));
afterAll(() => Promise.all(closing.map((server) => server.drain())));

async function served(canaryShare: number): Promise<TestServer> {
  const server = await testServer(bundles.objects, { canaryShare });
  closing = [...closing, server.server];
  return server;
}

/** The bundle that answered; the scores are those of that bundle and the mark is right. */
async function askedWith(url: string, fields: object): Promise<string> {
  const candidates = selfCheckCandidates(bundles.loaded[0]).slice(0, ROWS);
  const { status, body } = await posted(`${url}/v1/score`, { candidates, ...fields });
  expect(status, JSON.stringify(body)).toBe(200);
  const bundle = body['bundle'] as string;
  const { logits } = bundles.loaded[bundles.digests.indexOf(bundle)]!.selfCheck;
  for (const [row, score] of (body['scores'] as readonly number[]).entries())
    expect(Math.abs(score - logits[row]!)).toBeLessThan(1e-5);
  expect(body['canary']).toBe(bundle === canary ? true : undefined);
  return bundle;
}

async function reportOf(url: string): Promise<Readonly<Record<string, unknown>>> {
  return (await (await fetch(`${url}/v1/bundle`)).json()) as Readonly<Record<string, unknown>>;
}

describe('the share', () => {
  const keys = Array.from({ length: 20_000 }, (_, user) => `user ${user}`);

  test.each([0.01, 0.05, 0.5])('of keys is near %s', (share) => {
    const count = keys.filter((key) => isOfCanary('a digest', share, key)).length;
    // Five standard deviations of a binomial; the digest is fixed.
    const deviation = Math.sqrt(keys.length * share * (1 - share));
    expect(Math.abs(count - keys.length * share)).toBeLessThan(5 * deviation);
  });

  test('grows without losing a key, and is of other keys for another canary', () => {
    const drawn = (share: number, digest = 'a digest'): Set<string> =>
      new Set(keys.filter((key) => isOfCanary(digest, share, key)));
    const larger = drawn(0.1);
    expect([...drawn(0.05)].filter((key) => !larger.has(key))).toEqual([]);
    const both = [...drawn(0.1, 'another digest')].filter((key) => larger.has(key));
    expect(both.length).toBeLessThan(larger.size / 5);
    expect([drawn(0).size, drawn(1).size]).toEqual([0, keys.length]);
  });
});

describe('requests', () => {
  test('of a key are answered by one bundle, and each is counted for its bundle', async () => {
    const { url } = await served(0.5);
    const counts = new Map<string, number>();
    for (let user = 0; user < 24; user += 1) {
      const requestKey = `user ${user}`;
      const expected = isOfCanary(canary, 0.5, requestKey) ? canary : stable;
      // Whatever else the request asks for.
      expect(await askedWith(url, { requestKey })).toBe(expected);
      expect(await askedWith(url, { requestKey, seed: 1 })).toBe(expected);
      counts.set(expected, (counts.get(expected) ?? 0) + 2);
    }
    expect(counts.size).toBe(2);
    const { requests, canary: reported } = await reportOf(url);
    expect(reported).toEqual({ bundle: canary, label: 'canary', share: 0.5, refused: null });
    expect(requests).toMatchObject({
      byBundle: {
        [stable]: { answered: counts.get(stable), refused: 0 },
        [canary]: { answered: counts.get(canary), refused: 0 },
      },
    });
  });

  test('without a key are divided by their bodies, and a named bundle wins', async () => {
    const { url } = await served(0.5);
    const answered = new Map<number, string>();
    for (let seed = 0; seed < 24; seed += 1) answered.set(seed, await askedWith(url, { seed }));
    expect(new Set(answered.values()).size).toBe(2);
    for (const [seed, bundle] of answered) {
      expect(await askedWith(url, { seed })).toBe(bundle);
      expect(await askedWith(url, { seed, bundle: stable })).toBe(stable);
      expect(await askedWith(url, { seed, bundle: canary })).toBe(canary);
    }
    const none = await posted(`${url}/v1/score`, { ...RANKED, bundle: '0'.repeat(64) });
    expect(none.status).toBe(409);
  });

  test('go to the canary by the share of its label, while the server runs', async () => {
    const { url, canary: keeper } = await served(0);
    expect(await askedWith(url, {})).toBe(stable);
    await moveLabel(bundles.objects, 'canary', canary, 1);
    await keeper!.poll();
    expect(await askedWith(url, {})).toBe(canary);
    expect(await reportOf(url)).toMatchObject({ canary: { bundle: canary, share: 1 } });
    await moveLabel(bundles.objects, 'canary', canary);
    await keeper!.poll();
    expect(keeper!.share).toBe(1);
    // The share of one bundle is not that of the next.
    await moveLabel(bundles.objects, 'canary', stable);
    await keeper!.poll();
    expect(keeper!.share).toBe(0);
  });

  test('are ranked by the canary, with its mark', async () => {
    const { url } = await served(1);
    const { body } = await posted(`${url}/v1/rank`, RANKED);
    expect(body).toMatchObject({ bundle: canary, canary: true });
  });
});

describe('a canary', () => {
  test('that is damaged is refused and leaves the bundle in use, until it is repaired', async () => {
    const file = bundles.loaded[1].manifest.arrays.find(({ name }) => name === 'blocks')!.files[0]!;
    const key = `blobs/${file.sha256}`;
    const whole = (await bundles.objects.get(key))!.bytes;
    const changed = Uint8Array.from(whole);
    changed[0]! ^= 1;
    await bundles.objects.put(key, changed, { kind: 'always' });
    const { url, canary: keeper, events } = await served(1);
    expect(await askedWith(url, {})).toBe(stable);
    await keeper!.poll();
    expect(events.filter(({ kind }) => kind === 'bundle-refused')).toHaveLength(1);
    expect(keeper!.refused?.reason).toMatch(file.sha256);
    await bundles.objects.put(key, whole, { kind: 'always' });
    await moveLabel(bundles.objects, 'canary', stable);
    await keeper!.poll();
    await moveLabel(bundles.objects, 'canary', canary);
    await keeper!.poll();
    expect(await askedWith(url, {})).toBe(canary);
  });

  test('answers no more when its label points at one that is refused', async () => {
    const { url, canary: keeper, events } = await served(1);
    expect(await askedWith(url, {})).toBe(canary);
    await moveLabel(bundles.objects, 'canary', '0'.repeat(64));
    await keeper!.poll();
    expect(await askedWith(url, {})).toBe(stable);
    expect(keeper!.current).toBeNull();
    expect(keeper!.refused?.bundle).toBe('0'.repeat(64));
    await moveLabel(bundles.objects, 'canary', canary);
    await keeper!.poll();
    expect(await askedWith(url, {})).toBe(canary);
    expect(events.map(codeOf).filter((code) => /^canary|refused$/.test(code))).toEqual([
      ...['canary-served', 'bundle-refused', 'canary-ended', 'canary-served'],
    ]);
  });

  test('whose label is gone answers no more, and one that becomes stable is no canary', async () => {
    const { url, canary: keeper, keeper: ofStable, events } = await served(1);
    expect(await askedWith(url, {})).toBe(canary);
    await bundles.objects.delete('labels/canary.json');
    await keeper!.poll();
    expect(await askedWith(url, {})).toBe(stable);
    await moveLabel(bundles.objects, 'canary', canary);
    await keeper!.poll();
    expect(await askedWith(url, {})).toBe(canary);
    await moveLabel(bundles.objects, 'latest', canary);
    await ofStable.poll();
    const { body } = await posted(`${url}/v1/rank`, RANKED);
    expect([body['bundle'], body['canary']]).toEqual([canary, undefined]);
    await keeper!.poll();
    expect(keeper!.current).toBeNull();
    expect(events.map(codeOf).filter((code) => /^canary|refused$/.test(code))).toEqual([
      ...['canary-served', 'canary-ended', 'canary-served', 'canary-ended'],
    ]);
    await moveLabel(bundles.objects, 'latest', stable);
  });
});
