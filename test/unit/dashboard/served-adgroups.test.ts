/** Answers of ranking servers about an adgroup, and what the page of the adgroup makes of them and of its adaptation. */

import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { adgroupPage } from '../../../coordinator/dashboard/pages/adgroup-page.js';
import { ServedAdgroups } from '../../../coordinator/dashboard/serving/served-adgroups.js';
import { systemClock } from '../../../shared/base/clock.js';

const TOKEN = 'a-token-of-servers';
const SERVED = {
  ...{ adgroup: 'a/b\u001fc', impressions: 40, rewards: 3, open: 10, firstMs: 86_400_000 },
  served: { impressions: 50, explored: 10, propensities: 30 },
  all: { impressions: 200, explored: 20, propensities: 150 },
};

let server: Server;
let url: string;
let answer: { status: number; body: string };
const asked: string[] = [];
beforeAll(async () => {
  server = createServer((request, response) => {
    asked.push(`${request.headers.authorization ?? 'nobody'} ${request.url ?? ''}`);
    response.writeHead(answer.status).end(answer.body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  // A server on a port has such an address.
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => server.close());

function servers(token: string | null, nowMs: () => number = () => 0): ServedAdgroups {
  return new ServedAdgroups({
    addresses: [url],
    token,
    clock: { ...systemClock, monotonicMs: nowMs },
  });
}

async function pageOf(adgroups: ServedAdgroups): Promise<string> {
  const name = SERVED.adgroup;
  const page = adgroupPage({
    ...{ key: 'run', run: 'run', name, adgroups: null },
    asked: await adgroups.of(name),
  });
  return page.parts.map(({ html }) => html).join('\n');
}

it('has its share of what was served and explored, and its outcomes, from the token on', async () => {
  answer = { status: 200, body: JSON.stringify(SERVED) };
  asked.length = 0;
  const html = await pageOf(servers(TOKEN));
  expect(asked).toEqual([`Bearer ${TOKEN} /v1/exploration/a%2Fb%1Fc`]);
  // 50 of 200, 10 of 50, 30 over 50, 3 over 40.
  expect(html).toContain(
    '<td>50</td><td>25 %</td><td>20 %</td><td>0.600</td><td>0.0750</td><td>40</td><td class="text">1970-01-02 00:00:00</td>',
  );
});

it.each([
  [{ status: 404, body: '' }, 'unknown: it does not explore'],
  [{ status: 401, body: '' }, 'unknown: it demands another token'],
  [{ status: 503, body: '' }, 'unknown: it answers with status 503'],
  [{ status: 200, body: '<html>' }, 'unknown: its answer is not that of a ranking server'],
  [{ status: 200, body: '{"served":{}}' }, 'unknown: its answer is not that of a ranking server'],
])('says why a server that answers with %j says nothing', async (given, expected) => {
  answer = given;
  expect(await pageOf(servers(null))).toContain(expected);
});

it('asks once in ten seconds, however often the page is made', async () => {
  // Seen to fail: without what is kept.
  answer = { status: 200, body: JSON.stringify(SERVED) };
  asked.length = 0;
  let nowMs = 0;
  const adgroups = servers(null, () => nowMs);
  for (nowMs = 0; nowMs < 20_000; nowMs += 1_000) await adgroups.of('a');
  expect(asked).toHaveLength(2);
  await adgroups.of('b');
  expect(asked).toEqual([
    ...Array<string>(2).fill('nobody /v1/exploration/a'),
    'nobody /v1/exploration/b',
  ]);
});

it('asks a server below the path of a proxy', async () => {
  answer = { status: 200, body: JSON.stringify(SERVED) };
  asked.length = 0;
  const addresses = [`${url}/ads/ranking/`];
  await new ServedAdgroups({ addresses, token: null, clock: systemClock }).of('a/b');
  expect(asked).toEqual(['nobody /ads/ranking/v1/exploration/a%2Fb']);
});

it('says that it knows nothing where the dashboard was told of no server', () => {
  const html = adgroupPage({ key: 'run', run: 'run', name: 'a', adgroups: null, asked: null });
  expect(html.parts.at(-1)?.html).toContain('<code>--rankings</code>');
});
