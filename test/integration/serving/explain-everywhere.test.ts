/**
 * Explanations where scores come from elsewhere than the bundle's own block, or the answer has another form or order:
 * blocks that adapted while serving, explored orders, and the binary form.
 */

import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../../shared/base/clock.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import { adaptEndpoint } from '../../../worker/serving/server/endpoints/adapt.js';
import { rankingEndpoints } from '../../../worker/serving/server/endpoints/table.js';
import { BINARY_TYPE } from '../../../worker/serving/server/ranking-body.js';
import { LiveAdapter } from '../../../worker/serving/server/live-adapter.js';
import { labelledRowsOf } from '../../fixtures/serving/adapt-requests.js';
import { binaryAnswer, binaryRequest } from '../../fixtures/serving/binary-request.js';
import { localEngine } from '../../fixtures/serving/local-engine.js';
import {
  exportTwoBundles,
  posted,
  RANKED,
  testServer,
  type TestServer,
} from '../../fixtures/serving/served-export.js';
import { liveRowsLog, openFolderExploration } from '../../fixtures/serving/whole-server.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

interface Explained {
  readonly candidate: number;
  readonly block: number;
  readonly isLive: boolean;
  readonly evidence: { readonly supportRows: number };
  readonly score: number;
  readonly base: number;
  readonly blockShare: number;
  readonly shares: Readonly<Record<string, number>>;
}
interface Answer {
  readonly order: readonly number[];
  readonly scores: readonly number[];
  readonly explanation: { readonly isExact: boolean; readonly candidates: readonly Explained[] };
}

const ADGROUPS = ['task0', 'newcomer', 'nobody'];
const ASKED = { ...askedFor(ADGROUPS), explain: true };
const METHOD = { kind: 'fomaml', innerSteps: 2, innerRate: 0.2 };

let room: Awaited<ReturnType<typeof temporaryFolder>>;
let objects: MemoryObjectStore;
beforeAll(async () => {
  room = await temporaryFolder();
  objects = new MemoryObjectStore();
  await exportTwoBundles(objects, METHOD);
});
afterAll(() => room.remove());

async function ranked(url: string, request: object = ASKED): Promise<Answer> {
  const { status, body } = await posted(`${url}/v1/rank`, request);
  expect(status, JSON.stringify(body)).toBe(200);
  return body as unknown as Answer;
}

/** Explanations by candidate; each one's parts are its score, and that is the score of the answer. */
function explainedIn({ scores, explanation }: Answer): ReadonlyMap<number, Explained> {
  for (const { candidate, score, base, blockShare, shares } of explanation.candidates) {
    const parts = [base, blockShare, ...Object.values(shares)];
    expect(parts.reduce((sum, share) => sum + share, 0)).toBeCloseTo(score, 5);
    expect(score).toBeCloseTo(scores[candidate]!, 5);
  }
  return new Map(explanation.candidates.map((each) => [each.candidate, each]));
}

async function adaptingServer(objects: MemoryObjectStore, name: string) {
  const rows = await liveRowsLog(join(room.path, name));
  const engine = localEngine();
  const adapter = new LiveAdapter({ log: rows, engine, clock: systemClock });
  const served = await testServer(objects, {
    endpoints: [...rankingEndpoints, adaptEndpoint(adapter)],
  });
  await adapter.prepare(served.keeper.current, null);
  const close = async (): Promise<void> => {
    await served.server.drain();
    await rows.close();
    await engine.close();
  };
  return { url: served.url, close };
}

describe('blocks that adapted while serving', () => {
  test("are explained by what they add, and the bundle's own blocks as before", async () => {
    const served = await adaptingServer(objects, 'rows.ndjson');
    const before = explainedIn(await ranked(served.url));
    expect([...before.values()].map(({ isLive }) => isLive)).toEqual([false, false, false]);
    const labelled = await labelledRowsOf(0);
    const adapted = await posted(`${served.url}/v1/adapt`, {
      ...{ adgroup: 'newcomer', segment: 'segment0', rows: labelled },
    });
    expect(adapted.status, JSON.stringify(adapted.body)).toBe(200);
    const after = explainedIn(await ranked(served.url));
    for (const candidate of [0, 2]) expect(after.get(candidate)).toEqual(before.get(candidate));
    // Nothing is known of a newcomer: it has block 0, which adds nothing.
    expect(before.get(1)).toMatchObject({ block: 0, blockShare: 0 });
    expect(after.get(1)).toMatchObject({
      ...{ isLive: true, evidence: { supportRows: labelled.length } },
    });
    expect(Math.abs(after.get(1)!.blockShare)).toBeGreaterThan(1e-3);
    // Both begin with nothing, under block 0.
    expect(after.get(1)!.base).toBe(before.get(1)!.base);
    // Its rows are those that the first adgroup was exported with, so that its block is worth the same.
    const { features } = ASKED.candidates[0]!;
    const candidates = ASKED.candidates.map((each) => ({ ...each, features }));
    const [known, live] = [...explainedIn(await ranked(served.url, { ...ASKED, candidates }))]
      .sort(([a], [b]) => a - b)
      .map(([, each]) => each);
    expect(live!.score).toBeCloseTo(known!.score, 4);
    expect(live!.blockShare).toBeCloseTo(known!.blockShare, 4);
    await served.close();
  });
});

function askedFor(adgroups: readonly string[]): typeof RANKED {
  const candidates = RANKED.candidates.map((each, place) => ({
    ...each,
    adgroup: adgroups[place]!,
  }));
  return { ...RANKED, candidates };
}

test('a server that explores explains the candidates that it shows first', async () => {
  const opened = await openFolderExploration(join(room.path, 'explored'), 1);
  const endpoints = [
    ...rankingEndpoints.filter(({ path }) => path !== '/v1/rank'),
    ...opened.endpoints,
  ];
  const served = await testServer(objects, { endpoints, explainedMax: 1 });
  const plain = await testServer(objects);
  // Clicks alone are explored, so that all three are candidates of the slot.
  const asked = { ...askedFor(['task0', 'task2', 'nobody']), explain: true };
  const expected = explainedIn(await ranked(plain.url, asked));
  const shown = new Set<number>();
  for (let seed = 0; shown.size < 2 || seed < 20; seed += 1) {
    expect(seed, 'it never explores').toBeLessThan(400);
    const answer = await ranked(served.url, { ...asked, seed });
    const [first] = answer.order;
    expect([...explainedIn(answer)]).toEqual([[first, expected.get(first!)]]);
    shown.add(first!);
  }
  for (const { server } of [served, plain]) await server.drain();
  await opened.close();
});

describe('the binary form', () => {
  let served: TestServer;
  beforeAll(async () => {
    served = await testServer(objects);
  });
  afterAll(() => served.server.drain());

  test('asks for explanations and has them in the header of the answer, as JSON has them', async () => {
    const { candidates } = ASKED;
    const names = ['category1', 'bag0', 'number0'] as const;
    const body = binaryRequest(
      { context: ASKED.context, explain: true },
      {
        ...{ adgroups: ADGROUPS, areHashed: false, bids: candidates.map(({ bid }) => bid) },
        features: names.map((name) => {
          const values = candidates.map(({ features }) => features[name]);
          return [name, { type: 'inline', values }] as const;
        }),
      },
    );
    const answer = await fetch(`${served.url}/v1/rank`, {
      ...{ method: 'POST', headers: { 'content-type': BINARY_TYPE }, body },
    });
    expect(answer.status).toBe(200);
    const found = binaryAnswer(new Uint8Array(await answer.arrayBuffer()));
    const expected = await ranked(served.url);
    expect(expected.explanation.candidates).toHaveLength(3);
    expect(found['explanation']).toEqual(expected.explanation);
    explainedIn(found as unknown as Answer);
  });
});
