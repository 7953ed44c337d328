/** Explanations of blocks that adapted while serving. */

import { join } from 'node:path';
import { expect, test } from 'vitest';
import { systemClock } from '../../../shared/base/clock.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import { adaptEndpoint } from '../../../worker/serving/server/endpoints/adapt.js';
import { rankingEndpoints } from '../../../worker/serving/server/endpoints/table.js';
import { LiveAdapter } from '../../../worker/serving/server/live-adapter.js';
import { labelledRowsOf } from '../../fixtures/serving/adapt-requests.js';
import { localEngine } from '../../fixtures/serving/local-engine.js';
import {
  exportTwoBundles,
  posted,
  RANKED,
  testServer,
} from '../../fixtures/serving/served-export.js';
import { liveRowsLog } from '../../fixtures/serving/whole-server.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';
import { openedOnce } from '../../fixtures/opened.js';

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

const room = openedOnce(temporaryFolder);
const objects = new MemoryObjectStore();
await exportTwoBundles(objects);

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

test("they are explained by what they add, and the bundle's own blocks as before", async () => {
  const log = await liveRowsLog(join(room.path, 'rows.ndjson'));
  const engine = localEngine();
  const adapter = new LiveAdapter({ log, engine, clock: systemClock });
  const endpoints = [...rankingEndpoints, adaptEndpoint(adapter)];
  const served = await testServer(objects, { endpoints });
  await adapter.prepare(served.keeper.current, null);
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
  await served.server.drain();
  await log.close();
  await engine.close();
});

function askedFor(adgroups: readonly string[]): typeof RANKED {
  const candidates = RANKED.candidates.map((each, place) => ({
    ...each,
    adgroup: adgroups[place]!,
  }));
  return { ...RANKED, candidates };
}
