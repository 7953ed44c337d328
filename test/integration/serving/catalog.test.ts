/**
 * `POST /v1/adgroups`: requests that name adgroups alone are ranked by what the server knows of them, from one start to the
 * next, and adgroups that are paused or removed take no part.
 */

import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { systemClock } from '../../../shared/base/clock.js';
import { FileObjectStore } from '../../../shared/storage/file-object-store.js';
import { Catalog } from '../../../worker/serving/server/catalog.js';
import { adaptEndpoint } from '../../../worker/serving/server/endpoints/adapt.js';
import { adgroupEndpoints } from '../../../worker/serving/server/endpoints/adgroups.js';
import { rankingEndpoints } from '../../../worker/serving/server/endpoints/table.js';
import { LiveAdapter, LiveRowsState } from '../../../worker/serving/server/live-adapter.js';
import { BINARY_TYPE } from '../../../worker/serving/server/ranking-body.js';
import { binaryAnswer, binaryRequest } from '../../fixtures/serving/binary-request.js';
import { liveRowsLog, openFolderExploration } from '../../fixtures/serving/whole-server.js';
import {
  posted,
  testServer,
  twoBundles,
  type Answered,
} from '../../fixtures/serving/served-export.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';
import { openedOnce } from '../../fixtures/opened.js';

const CONTEXT = { category0: 'category0-3' };
const ATTRIBUTES: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  task1: { category1: 'category1-1', bag0: ['bag0-1'], number0: 0.5 },
  newcomer: { category1: 'category1-2', bag0: [], number0: -1 },
};

const bundles = await twoBundles();
const room = openedOnce(temporaryFolder);

interface Asking {
  readonly url: string;
  readonly put: (body: object) => Promise<Answered>;
  /** Ranks adgroups with the features that are sent. */
  readonly ranked: (candidates: readonly object[]) => Promise<Answered['body']>;
  readonly dropped: () => object;
}

/** Starts a server on the state of the test, and ends it. */
async function whileServed(
  ask: (asking: Asking) => Promise<void>,
  { explores = false, state = 'state.log' } = {},
): Promise<void> {
  const log = await liveRowsLog(join(room.path, state));
  const exploration = explores ? await openFolderExploration(room.path) : null;
  const none = (): Promise<never> => Promise.reject(new Error('no engine'));
  const engine = { start: none, execute: none };
  const adapter = new LiveAdapter({ log, engine, clock: systemClock });
  const rankings = exploration?.endpoints ?? [];
  const endpoints = [
    ...rankingEndpoints.filter(({ path }) => rankings.every((each) => each.path !== path)),
    ...[adaptEndpoint(adapter), ...adgroupEndpoints(adapter), ...rankings],
  ];
  const { url, server, keeper } = await testServer(bundles.objects, { endpoints });
  await adapter.prepare(keeper.current, null);
  try {
    await ask({
      url,
      put: (body) => posted(`${url}/v1/adgroups`, body),
      ranked: async (candidates) => {
        const answer = await posted(`${url}/v1/rank`, { context: CONTEXT, candidates, seed: 1 });
        expect(answer.status, JSON.stringify(answer.body)).toBe(200);
        return answer.body;
      },
      dropped: () => keeper.current.scored.dropped,
    });
  } finally {
    await server.drain();
    await exploration?.close();
    await log.close();
  }
}

const named = Object.keys(ATTRIBUTES).map((adgroup) => ({ adgroup, bid: 2 }));
const sent = named.map((each) => ({ ...each, features: ATTRIBUTES[each.adgroup] }));

// Seen to fail: a log that is not replayed, a column of the catalog over one that is sent, removed adgroups that rank.
test('adgroups are ranked by what the server knows of them, until they are paused or removed', async () => {
  let expected: unknown;
  await whileServed(async ({ put, ranked, dropped }) => {
    expected = (await ranked(sent))['scores'];
    for (const [adgroup, attributes] of Object.entries(ATTRIBUTES))
      expect(await put({ adgroup, attributes })).toMatchObject({
        ...{ status: 200, body: { adgroup, state: 'active' } },
      });
    expect((await ranked(named))['scores']).toEqual(expected);
    // What is sent comes first, for one candidate of two and one column of three.
    const [first, second] = [named[0]!, named[1]!];
    const own = { category1: 'category1-3' };
    const whole = { ...ATTRIBUTES['newcomer'], ...own };
    const { scores } = await ranked([first, { ...second, features: own }]);
    expect(scores).toEqual((await ranked([sent[0]!, { ...second, features: whole }]))['scores']);
    expect(scores).not.toEqual(expected);
    expect(dropped()).toEqual({ 'wrong-value': 0, 'not-finite': 0, paused: 0, removed: 0 });
  });
  await whileServed(async ({ put, ranked, dropped }) => {
    expect((await ranked(named))['scores']).toEqual(expected);
    await put({ adgroup: 'newcomer', state: 'paused' });
    const paused = await ranked(named);
    expect(paused['scores']).toEqual([(expected as number[])[0], null]);
    expect(paused['order']).toEqual([0]);
    expect(paused['dropped']).toMatchObject([{ candidate: 1, reason: 'paused' }]);
    await put({ adgroup: 'newcomer' });
    expect((await ranked(named))['scores']).toEqual(expected);
    for (const { adgroup } of named) await put({ adgroup, state: 'removed' });
    const nothing = await ranked(named);
    expect(nothing['order']).toEqual([]);
    expect(nothing['scores']).toEqual([null, null]);
    expect(dropped()).toMatchObject({ 'wrong-value': 0, paused: 1, removed: 2 });
  });
  await whileServed(async ({ put, ranked }) => {
    expect((await ranked(sent))['order']).toEqual([]);
    await put({ adgroup: 'task1', attributes: ATTRIBUTES['task1'] });
    expect((await ranked(named))['scores']).toEqual([(expected as number[])[0], null]);
  });
});

const HASHED = { areHashed: true, features: [] };

/** The scores of adgroups that are named alone, in binary and by their hashes. */
async function hashedAnswer(url: string, adgroups: readonly string[]) {
  const bids = adgroups.map(() => 2);
  const body = binaryRequest({ context: CONTEXT, seed: 1 }, { ...HASHED, adgroups, bids });
  const headers = { 'Content-Type': BINARY_TYPE };
  const answer = await fetch(`${url}/v1/rank`, { method: 'POST', headers, body });
  const bytes = Buffer.from(await answer.arrayBuffer());
  expect(answer.status, bytes.toString()).toBe(200);
  return binaryAnswer(bytes);
}

// Seen to fail: keys of hashes that the log of rows does not get, adgroups without an entry that are ranked without a name.
test.each([false, true])(
  'columns and hashes are small requests, explored: %s',
  async (explores) => {
    const state = `small-${explores}.log`;
    const names = ['task0', 'task2', 'newcomer'];
    const attributes = ATTRIBUTES['newcomer'];
    const ask = async ({ url, put, ranked }: Asking): Promise<void> => {
      const whole = names.map((adgroup) => ({ adgroup, bid: 2, features: attributes }));
      const { scores: expected } = await ranked(whole);
      for (const adgroup of names) await put({ adgroup, attributes });
      const bid = names.map(() => 2);
      const columns = { context: CONTEXT, candidates: { adgroup: names, bid }, seed: 1 };
      expect((await posted(`${url}/v1/rank`, columns)).body['scores']).toEqual(expected);
      expect((await hashedAnswer(url, names))['scores']).toEqual(expected);
      // The log cannot name an adgroup that the catalog lacks, and its features are not there either.
      const other = await hashedAnswer(url, [...names, 'nobody']);
      expect(other['scores']).toEqual([...(expected as unknown[]), null]);
      expect(other['dropped']).toMatchObject([{ candidate: 3, reason: 'wrong-value' }]);
    };
    await whileServed(ask, { explores, state });
    if (!explores) return;
    const lines: string[] = [];
    const rows = new FileObjectStore({ folder: join(room.path, 'rows') });
    for (const file of await rows.list(''))
      lines.push(gunzipSync((await rows.get(file))!.bytes).toString());
    const rankings = lines
      .join('')
      .split('\n')
      .filter((line) => line.includes('"ranking"'));
    expect(rankings).toHaveLength(4);
    for (const line of rankings) {
      expect(names.some((name) => line.includes(`"${name}"`))).toBe(true);
      expect(line).toContain('category1-2');
    }
  },
);

test('values and segments that the bundle cannot read are refused, and not stored', async () => {
  await whileServed(async ({ put }) => {
    const wrong = await put({ adgroup: 'task1', attributes: { number0: 'many' } });
    expect(wrong).toMatchObject({ status: 400, body: { where: 'attributes.number0' } });
    const other = await put({ adgroup: 'task1', segment: 'nowhere' });
    expect(other).toMatchObject({ status: 400, body: { where: 'segment' } });
    expect((await put({ adgroup: 'task1', state: 'gone' })).status).toBe(400);
  });
});

test('a snapshot gives the same catalog', () => {
  const state = new LiveRowsState();
  const lineOf = (of: object): string =>
    JSON.stringify({ segment: null, attributes: null, state: 'active', ...of });
  state.apply(lineOf({ adgroup: 'a', segment: 'shop', attributes: { price: 1 } }));
  state.apply(lineOf({ adgroup: 'a', state: 'paused' }));
  state.apply(lineOf({ adgroup: 'b', attributes: { price: 2 } }));
  state.apply(lineOf({ adgroup: 'b', state: 'removed' }));
  const restored = new LiveRowsState();
  for (const line of state.snapshot()) restored.apply(line);
  expect([...restored.snapshot()]).toEqual([...state.snapshot()]);
  expect([...state.snapshot()].map((line) => JSON.parse(line) as unknown)).toEqual([
    { adgroup: 'a', state: 'paused', segment: 'shop', attributes: { price: 1 } },
    { adgroup: 'b', state: 'removed', segment: null, attributes: {} },
  ]);
});

test('a catalog is bounded by what it keeps, and a full one still pauses and removes', () => {
  const catalog = new Catalog({ adgroupsMax: 2, lengthMax: 300 });
  const line = { adgroup: 'a', state: 'active', segment: null, attributes: null } as const;
  catalog.apply({ ...line, attributes: { text: 'x'.repeat(150) } });
  // A line without attributes keeps those of before, and their length.
  catalog.apply({ ...line, state: 'paused' });
  const large = { ...line, adgroup: 'b', attributes: { text: 'x'.repeat(100) } };
  expect(catalog.hasRoomFor(large)).toBe(false);
  catalog.apply({ ...line, adgroup: 'b' });
  expect(catalog.hasRoomFor({ ...line, adgroup: 'c' })).toBe(false);
  expect(catalog.hasRoomFor({ ...line, state: 'removed' })).toBe(true);
  catalog.apply({ ...line, state: 'removed' });
  expect(catalog.hasRoomFor(large)).toBe(true);
});
