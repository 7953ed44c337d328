/** The client and the example in Python against a real server. */

import { execFile, spawnSync } from 'node:child_process';
import { createServer, type RequestListener, type Server } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { promisify } from 'node:util';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { RankingClient } from '../../../infra/library/client.js';
import { projectRoot } from '../../../infra/bootstrap/base.mjs';
import { posted, RANKED, testServer, twoBundles } from '../../fixtures/serving/served-export.js';

const bundles = await twoBundles();
const served = await testServer(bundles.objects, { explainedMax: 2 });
const { url } = served;
afterAll(() => served.server.drain());

describe('the client', () => {
  let other: Server | undefined;
  afterEach(() => other?.close());

  async function answering(listener: RequestListener): Promise<RankingClient> {
    other = createServer(listener).listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    return new RankingClient({ url: `http://127.0.0.1:${port}`, timeoutMs: 5_000 });
  }

  test('gives the answers of the server', async () => {
    const client = new RankingClient({ url, timeoutMs: 30_000 });
    const { body: ranked } = await posted(`${url}/v1/rank`, RANKED);
    expect(await client.rank(RANKED)).toEqual(ranked);
    const { bundle, scores } = ranked;
    expect(await client.score({ ...RANKED, fields: ['scores'] })).toEqual({ bundle, scores });
  });

  test('asks for explanations, whose shares sum to the scores of the first candidates', async () => {
    const client = new RankingClient({ url, timeoutMs: 30_000 });
    const { explanation, order, scores, evidence, blocks } = await client.rank({
      ...{ ...RANKED, explain: true },
    });
    expect(explanation?.isExact).toBe(false);
    // The server of this test explains two.
    expect(explanation?.candidates.map(({ candidate }) => candidate)).toEqual(order.slice(0, 2));
    for (const each of explanation?.candidates ?? []) {
      const { candidate, block, score, base, blockShare, shares, evidence: own } = each;
      expect(block).toBe(blocks[candidate]);
      expect(own.supportRows).toBe(evidence.supportRows[candidate]);
      expect(Object.keys(shares)).toEqual(['category0', 'category1', 'bag0', 'number0']);
      expect(score).toBeCloseTo(scores[candidate]!, 5);
      const parts = [base, blockShare, ...Object.values(shares)];
      expect(parts.reduce<number>((sum, share) => sum + share!, 0)).toBeCloseTo(score!, 5);
    }
    const scored = await client.score({ ...RANKED, explain: true, fields: ['scores'] });
    expect(scored.explanation?.candidates.map(({ candidate }) => candidate)).toEqual([0, 1]);
    expect((await client.score(RANKED)).explanation).toBeUndefined();
  });

  test('says what the server refuses, and does not ask again', async () => {
    const client = new RankingClient({ url, timeoutMs: 30_000 });
    const refused = client.rank({ candidates: [{ adgroup: 'task1' }, { adgroup: 'task1' }] });
    await expect(refused).rejects.toMatchObject({ kind: 'usage' });
  });

  test('asks again when a proxy finds no server, and says so', async () => {
    const page = '<html>502 Bad Gateway</html>';
    let asked = 0;
    const client = await answering((_, response) => {
      asked += 1;
      if (asked === 2) response.end(JSON.stringify({ bundle: 'b', seed: null, order: [0] }));
      else response.writeHead(502, { 'Content-Type': 'text/html' }).end(page);
    });
    expect((await client.rank(RANKED)).order).toEqual([0]);
    const failure: unknown = await client.rank(RANKED).catch((error: unknown) => error);
    expect(asked).toBe(5);
    expect(failure).toMatchObject({
      report: {
        what: 'the server answers with status 502',
        cure: 'look whether the server behind the proxy runs',
      },
    });
  });

  test('asks again after 503 when the server says so, with the time that is left', async () => {
    const deadlines: number[] = [];
    const client = await answering((request, response) => {
      deadlines.push(Number(request.headers['qianmo-deadline-ms']));
      if (deadlines.length < 3) {
        response.writeHead(503, { 'Retry-After': '0' }).end('{}');
        return;
      }
      response.end(JSON.stringify({ bundle: 'b', seed: null, order: [0] }));
    });
    expect(await client.rank({ candidates: [], fields: ['order'] })).toMatchObject({ order: [0] });
    expect(deadlines).toHaveLength(3);
    expect(deadlines.every((leftMs) => leftMs > 0 && leftMs <= 5_000)).toBe(true);
  });

  test.each([
    ['more attempts than it may make', 503, '0', 3],
    ['a wait beyond its time', 429, '30', 1],
    ['a refusal that does not pass', 400, '0', 1],
    ['an answer that is none', 200, '0', 1],
  ])('gives up after %s', async (_, status, retryAfter, expected) => {
    let count = 0;
    const client = await answering((_request, response) => {
      count += 1;
      response.writeHead(status, { 'Retry-After': retryAfter }).end('{}');
    });
    await expect(client.rank({ candidates: [] })).rejects.toThrow();
    expect(count).toBe(expected);
  });

  test('asks below the path of a proxy', async () => {
    const asked: string[] = [];
    await answering((request, response) => {
      asked.push(request.url ?? '');
      response.end(JSON.stringify({ bundle: 'b', seed: null, order: [] }));
    });
    const { port } = other?.address() as AddressInfo;
    for (const path of ['', '/', '/ranking', '/ads/ranking/?x=1'])
      await new RankingClient({ url: `http://127.0.0.1:${port}${path}`, timeoutMs: 5_000 }).rank({
        candidates: [],
      });
    expect(asked).toEqual(['/v1/rank', '/v1/rank', '/ranking/v1/rank', '/ads/ranking/v1/rank']);
  });

  test('refuses wrong options', () => {
    expect(() => new RankingClient({ url: 'ftp://x' })).toThrow(/options of the client/);
  });
});

const python = spawnSync('python3', ['--version']).status === 0 ? '' : ' (python3 is not there)';
test.skipIf(python !== '')(`the example in Python ranks${python}`, async () => {
  const example = `${projectRoot}/infra/examples/rank.py`;
  const { stdout } = await promisify(execFile)('python3', [example, url, JSON.stringify(RANKED)]);
  const { body } = await posted(`${url}/v1/rank`, RANKED);
  const places = stdout
    .trimEnd()
    .split('\n')
    .map((line) => Number(line.split(' ')[0]));
  expect(places).toEqual(body['order']);
});
