/**
 * A server of a small bundle: scores are those of the self-check rows, a swap under load loses no request,
 * what is damaged is not served, and bad or slow requests have defined answers.
 */

import { EventEmitter, once } from 'node:events';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, describe, expect, test } from 'vitest';
import { moveLabel } from '../../../shared/bundle/bundle-store.js';
import { blockOfKey } from '../../../shared/bundle/key-index.js';
import { jsonAnswer, type Endpoint } from '../../../worker/serving/server/endpoint.js';
import { rankingEndpoints } from '../../../worker/serving/server/endpoints/table.js';
import { RefusedRequest } from '../../../worker/serving/server/refused-request.js';
import {
  posted,
  RANKED,
  selfCheckCandidates,
  testServer,
  twoBundles,
} from '../../fixtures/serving/served-export.js';
import { compiledAddon } from '../../fixtures/serving/compiled-addon.js';
import { checkedScore } from '../../fixtures/serving/mapped-server.js';

const bundles = await twoBundles();
const served = await testServer(bundles.objects);
afterAll(() => served.server.drain());

function differenceMax(found: unknown, expected: Float32Array): number {
  const scores = found as readonly number[];
  expect(scores).toHaveLength(expected.length);
  return Math.max(...scores.map((score, row) => Math.abs(score - expected[row]!)));
}

describe('scores', () => {
  test('are those of the self-check rows', async () => {
    const [loaded] = bundles.loaded;
    const { status, body } = await posted(`${served.url}/v1/score`, {
      candidates: selfCheckCandidates(loaded),
    });
    expect(status).toBe(200);
    expect(body['bundle']).toBe(bundles.digests[0]);
    expect(differenceMax(body['scores'], loaded.selfCheck.logits)).toBeLessThan(1e-5);
    expect(body['blocks']).toEqual([...loaded.selfCheck.blocks]);
  });

  test('of a context are those of candidates that repeat it', async () => {
    const { body } = await posted(`${served.url}/v1/rank`, RANKED);
    const { context, candidates } = RANKED;
    const repeated = {
      candidates: candidates.map((each) => ({
        ...each,
        features: { ...each.features, ...context },
      })),
    };
    expect((await posted(`${served.url}/v1/rank`, repeated)).body).toEqual(body);
    expect(body).toMatchObject({
      seed: null,
      blocks: ['task1', 'task2', 'nobody'].map((key) => blockOfKey(bundles.loaded[0].index, key)),
      segments: ['segment1', 'segment0', null],
    });
    const values = body['values'] as readonly number[];
    const order = [0, 1, 2].sort((a, b) => values[b]! - values[a]!);
    expect(body['order']).toEqual(order);
  });

  test('say which bundle and scorer they are of', async () => {
    const answer = await fetch(`${served.url}/v1/bundle`);
    expect(await answer.json()).toMatchObject({
      ...{ bundle: bundles.digests[0], label: 'latest', adgroups: 12 },
      scorer: { name: expect.stringMatching(/^kernel /) as string, reasonNotKernel: null },
      taskColumns: ['task'],
    });
  });
});

describe('swap', () => {
  test('under load loses no request, and every answer is of the bundle it names', async () => {
    const { url, keeper, server } = await testServer(bundles.objects);
    const seen = new Map<string, number>();
    let isOver = false;
    const client = async (): Promise<void> => {
      while (!isOver) {
        const digest = await checkedScore(url, bundles);
        seen.set(digest, (seen.get(digest) ?? 0) + 1);
      }
    };
    const clients = [client(), client(), client(), client()];
    for (let swap = 0; swap < 10; swap += 1) {
      await moveLabel(bundles.objects, 'latest', bundles.digests[(swap + 1) % 2]!);
      await keeper.poll();
      // By the time this is answered, so are requests of the others.
      for (let turn = 0; turn < 3; turn += 1) await checkedScore(url, bundles);
    }
    isOver = true;
    await Promise.all(clients);
    expect(keeper.swapCount).toBe(10);
    expect(seen.size).toBe(2);
    await server.drain();
  });

  test('to a bundle whose rows score otherwise is refused', async () => {
    let isOff = false;
    const addon = await compiledAddon();
    const { keeper, server } = await testServer(bundles.objects, {
      addon: {
        ...addon,
        score: (...given) => {
          const status = addon.score(...given);
          if (isOff) given[7][0]! += 1e-3;
          return status;
        },
      },
    });
    isOff = true;
    await moveLabel(bundles.objects, 'latest', bundles.digests[1]);
    await keeper.poll();
    expect(keeper.current.digest).toBe(bundles.digests[0]);
    expect(keeper.refused?.reason).toMatch(/self-check: row 0/);
    await moveLabel(bundles.objects, 'latest', bundles.digests[0]);
    await server.drain();
  });
});

describe('a request', () => {
  const one = {
    adgroup: 'task1',
    features: { category0: 'x', category1: 'y', bag0: [], number0: 1 },
  };
  const rank = (body: unknown) => posted(`${served.url}/v1/rank`, body);

  test('without candidates has an empty order', async () => {
    expect((await rank({ candidates: [] })).body).toMatchObject({ order: [], scores: [] });
  });

  // Seen to fail: one bad value refused the whole auction, and an infinite score came first.
  test('is ranked without its bad candidates, which are named and counted', async () => {
    const with_ = (adgroup: string, changes: object = {}, own: object = {}) => ({
      ...{ ...one, adgroup, features: { ...one.features, ...changes } },
      ...own,
    });
    const candidates = [
      with_('task3'),
      with_('task1'),
      with_('task2', { number0: 'cheap' }),
      with_('task4', {}, { bid: -1 }),
      with_('task5', { category0: { deep: true } }),
      with_('task6', {}, { bid: 2 }),
    ];
    const addon = await compiledAddon();
    const score: typeof addon.score = (...given) => {
      const found = addon.score(...given);
      // An overflow of the first candidate of the whole auction.
      if (given[1] === candidates.length) given[7][0] = Infinity;
      return found;
    };
    const { url, server, keeper } = await testServer(bundles.objects, {
      addon: { ...addon, score },
    });
    const { body, status } = await posted(`${url}/v1/rank`, { candidates, explain: true });
    expect(status, JSON.stringify(body)).toBe(200);
    const alone = await rank({ candidates: [candidates[1], candidates[5]] });
    const places = (alone.body['order'] as number[]).map((place) => [1, 5][place]);
    expect(body['order']).toEqual(places);
    expect((body['values'] as unknown[]).map((value) => value === null)).toEqual(
      candidates.map((_, place) => place !== 1 && place !== 5),
    );
    expect(body['dropped']).toMatchObject([
      { candidate: 0, reason: 'not-finite' },
      { candidate: 2, reason: 'wrong-value', where: 'candidate 2' },
      { candidate: 3, reason: 'wrong-value', found: expect.stringContaining('bid') as string },
      {
        candidate: 4,
        reason: 'wrong-value',
        found: expect.stringContaining('category0') as string,
      },
    ]);
    expect(keeper.current.scored.dropped).toMatchObject({ 'wrong-value': 3, 'not-finite': 1 });
    const scored = await posted(`${url}/v1/score`, { candidates });
    expect((scored.body['scores'] as unknown[]).filter((value) => value !== null)).toHaveLength(2);
    await server.drain();
    // A bad context is an error.
    expect((await rank({ context: { number0: 'cheap' }, candidates: [one] })).status).toBe(400);
  });

  test('ranks materials of one adgroup or crowd, which their features tell apart', async () => {
    const material = (number0: number) => ({ ...one, features: { ...one.features, number0 } });
    const candidates = [0.1, 3, -2, 1].map(material);
    const { body, status } = await rank({ candidates });
    expect(status, JSON.stringify(body)).toBe(200);
    const values = body['values'] as number[];
    expect(new Set(values).size).toBe(4);
    const byValue = [0, 1, 2, 3].sort((a, b) => (values[b] ?? NaN) - (values[a] ?? NaN));
    expect(body['order']).toEqual(byValue);
    const again = await rank({ candidates: [...candidates, material(3)] });
    expect(again).toMatchObject({ status: 400, body: { where: 'candidate 4' } });
  });

  test('has the lists that it asks for', async () => {
    const asked = { candidates: [one], fields: ['order', 'expected'] };
    const { body, status } = await rank(asked);
    expect(status).toBe(200);
    expect(Object.keys(body).sort()).toEqual(['bundle', 'expected', 'order', 'seed']);
    const scored = await posted(`${served.url}/v1/score`, asked);
    expect(scored.body).toMatchObject({ status: 400, where: 'fields' });
  });

  test.each([
    ['not JSON', '{"candidates": [', 400, /not JSON/],
    ['no candidates', {}, 400, /candidates: is missing/],
    [
      'a missing feature',
      { candidates: [{ adgroup: 'task1' }] },
      400,
      /lacks the column "category0"/,
    ],
    ['a duplicate', { candidates: [one, one] }, 400, /twice.*candidate 1/],
    [
      'a column twice',
      { context: { category0: 'a' }, candidates: [one] },
      400,
      /context\.category0/,
    ],
    [
      'a huge body',
      { context: { a: Array(900).fill('x'.repeat(9_999)) }, candidates: [] },
      413,
      /too large/,
    ],
  ])('with %s has a defined answer', async (_, body, status, expected) => {
    const answer = await rank(body);
    expect(Object.entries(answer.body).join(' ')).toMatch(expected);
    expect(answer.status).toBe(status);
    if (status !== 200) expect(answer.headers.get('content-type')).toBe('application/problem+json');
  });

  test('of a wrong path, method or type has a defined answer', async () => {
    const statusOf = async (path: string, init: RequestInit = {}) => {
      const { status, headers } = await fetch(`${served.url}${path}`, init);
      return [status, headers.get('allow')];
    };
    expect(await statusOf('/v1/rank')).toEqual([405, 'POST']);
    expect(await statusOf('/v1/bundle', { method: 'PUT' })).toEqual([405, 'GET, HEAD']);
    expect(await statusOf('/../../etc/passwd')).toEqual([404, null]);
    expect(await statusOf('/v1/rank', { method: 'POST', body: '{}' })).toEqual([415, null]);
    expect(await statusOf('/health/live')).toEqual([200, null]);
  });

  // Seen to fail: 200 by the first one.
  test('with two hosts is refused', async () => {
    const sent = connect(Number(new URL(served.url).port), '127.0.0.1');
    sent.end('GET /health/live HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n');
    expect(await text(sent)).toMatch(/^HTTP\/1.1 400 .*two hosts/s);
  });

  test('without the token is refused, but for those of health', async () => {
    const token = 'a token of a test';
    const { url, server } = await testServer(bundles.objects, { token });
    expect((await posted(`${url}/v1/rank`, RANKED)).status).toBe(401);
    const headers = { authorization: `Bearer ${token}` };
    expect((await posted(`${url}/v1/rank`, RANKED, headers)).status).toBe(200);
    expect((await fetch(`${url}/health/ready`)).status).toBe(200);
    await server.drain();
  });

  test('that writes demands the token of writes, which ranks nothing', async () => {
    const [token, writeToken] = ['a token of a test', 'a token of writes'];
    const write: Endpoint = {
      ...{ method: 'POST', path: '/v1/write', mediaTypes: ['application/json'], isWrite: true },
      answer: () => jsonAnswer({}),
    };
    const endpoints = [...rankingEndpoints, write];
    const statusesWith = async (settings: object): Promise<number[]> => {
      const { url, server } = await testServer(bundles.objects, { endpoints, ...settings });
      const statuses: number[] = [];
      for (const path of ['/v1/rank', '/v1/write'])
        for (const each of [token, writeToken]) {
          const headers = { authorization: `Bearer ${each}` };
          statuses.push((await posted(`${url}${path}`, RANKED, headers)).status);
        }
      await server.drain();
      return statuses;
    };
    expect(await statusesWith({ token, writeToken })).toEqual([200, 401, 401, 200]);
    expect(await statusesWith({ token })).toEqual([200, 401, 200, 401]);
  });

  test('beyond the queue is refused, and counted', async () => {
    const { url, server } = await testServer(bundles.objects, {
      queuedRequestsMax: 1,
    });
    const statuses = new Set<number>();
    while (!statuses.has(429) || !statuses.has(200)) {
      const answers = await Promise.all(
        Array.from({ length: 40 }, () => posted(`${url}/v1/rank`, RANKED)),
      );
      for (const { status } of answers) statuses.add(status);
    }
    expect([...statuses].sort()).toEqual([200, 429]);
    const { requests } = (await (await fetch(`${url}/v1/bundle`)).json()) as {
      readonly requests: { readonly refused: Readonly<Record<string, number>> };
    };
    expect(requests.refused['queue-full']).toBeGreaterThan(0);
    await server.drain();
  });
});

describe('an endpoint', () => {
  test('that waits keeps no request from an answer, and may refuse late', async () => {
    const log = new EventEmitter();
    const [entered, stored] = [once(log, 'entered'), once(log, 'stored')];
    const later: Endpoint = {
      ...{ method: 'POST', path: '/later/{name}', mediaTypes: ['text/x-later'] },
      answer: async ({ body, mediaType, parameter, bundle }) => {
        log.emit('entered');
        await stored;
        if (body.length === 0)
          throw new RefusedRequest({ reason: 'wrong-value', what: 'there is nothing to store' });
        const content = `${body.toString()} ${mediaType} ${parameter} ${bundle.digest}`;
        return { mediaType: 'text/plain', content };
      },
    };
    const { url, server } = await testServer(bundles.objects, {
      endpoints: [...rankingEndpoints, later],
    });
    const sent = (body: string): Promise<Response> =>
      fetch(`${url}/later/a%20name`, {
        ...{ method: 'POST', body, headers: { 'content-type': 'text/x-later; charset=utf-8' } },
      });
    const waiting = [sent('a body'), sent('')] as const;
    await entered;
    expect((await posted(`${url}/v1/rank`, RANKED)).status).toBe(200);
    log.emit('stored');
    const [answered, refused] = await Promise.all(waiting);
    expect(await answered.text()).toBe(`a body text/x-later a name ${bundles.digests[0]}`);
    expect(refused.status).toBe(400);
    await server.drain();
  });
});
