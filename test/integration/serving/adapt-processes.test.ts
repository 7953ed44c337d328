/**
 * `POST /v1/adapt` of several processes: rows that one has acknowledged are soon served in every process, in one order
 * everywhere, and a kill of a process or of all loses none of them.
 */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { beforeAll, expect, test } from 'vitest';
import { FileObjectStore } from '../../../shared/storage/file-object-store.js';
import type { RunningCommand } from '../../fixtures/commands/command.js';
import { labelledRowsOf, scoresOf } from '../../fixtures/serving/adapt-requests.js';
import { serveCommand, type ServedCommand } from '../../fixtures/serving/served-command.js';
import { exportTwoBundles } from '../../fixtures/serving/served-export.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';
import { openedOnce } from '../../fixtures/opened.js';

/** More than processes, so that each of them answers one at least. */
const ASKED = 6;
const ANSWER_MS_MAX = 10_000;

const room = openedOnce(temporaryFolder);
beforeAll(async () => {
  await exportTwoBundles(new FileObjectStore({ folder: join(room.path, 'bundles') }));
});

function served(): Promise<ServedCommand> {
  const options = ['--deadline-ms', '60000', '--state', 'state', '--processes', '2'];
  return serveCommand(room.path, 'bundles', options);
}

/** Resolves with whether it was acknowledged: not if the process that had the connection was killed. */
async function adapted(url: string, adgroup: string, rows: readonly object[]): Promise<boolean> {
  try {
    const answer = await fetch(`${url}/v1/adapt`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', connection: 'close' },
      body: JSON.stringify({ adgroup, segment: 'segment0', rows }),
      // A connection that was on its way to the process when it was killed is never answered.
      signal: AbortSignal.timeout(ANSWER_MS_MAX),
    });
    return answer.status === 200;
  } catch {
    return false;
  }
}

/** Waits until every process serves the same live blocks, and returns their scores. */
async function liveScores(url: string, adgroups: readonly string[]): Promise<readonly number[]> {
  for (;;) {
    const answers = [];
    for (let asked = 0; asked < ASKED; asked += 1) answers.push(await scoresOf(url, adgroups));
    const [first] = answers;
    const live = [...adgroups.keys()];
    const isEverywhere = answers.every((each) =>
      isDeepStrictEqual([each.live, each.scores], [live, first!.scores]),
    );
    if (isEverywhere) return first!.scores;
  }
}

async function processesOf({ pid }: RunningCommand): Promise<number[]> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
  return children.trim().split(' ').map(Number);
}

async function untilReady(url: string): Promise<void> {
  for (;;) {
    const answer = await fetch(`${url}/health/ready`, { headers: { connection: 'close' } });
    const { processes } = (await answer.json()) as { readonly processes: { ready: number } };
    if (processes.ready === 2) return;
  }
}

test('every process serves what one has acknowledged, whichever is killed', async () => {
  const { command, url } = await served();
  const rows = await labelledRowsOf(0);
  expect((await scoresOf(url, ['one', 'two'])).live).toBeUndefined();
  for (const adgroup of ['one', 'two', 'one']) {
    expect(await adapted(url, adgroup, rows)).toBe(true);
    await liveScores(url, [adgroup]);
  }

  // Both processes change one adgroup at once: all serve the same rows afterwards.
  const changes = Array.from({ length: 10 }, (_, turn) =>
    adapted(url, 'contended', rows.slice(0, 1 + (turn % rows.length))),
  );
  expect(await Promise.all(changes)).toEqual(changes.map(() => true));
  await liveScores(url, ['contended']);

  const names = Array.from({ length: 15 }, (_, place) => `adgroup-${place}`);
  const adapting = names.map((name) => adapted(url, name, rows));
  await Promise.race(adapting);
  process.kill((await processesOf(command))[0]!, 'SIGKILL');
  const acknowledged = (await Promise.all(adapting)).flatMap((isAcknowledged, place) =>
    isAcknowledged ? [names[place]!] : [],
  );
  expect(acknowledged.length).toBeGreaterThan(0);
  await command.saw(/it is started again/);
  await untilReady(url);
  const known = ['one', 'two', 'contended', ...acknowledged];
  const scores = await liveScores(url, known);

  // None of the processes outlives their parent.
  command.signal('SIGKILL');
  await command.ended;
  const again = await served();
  expect(await liveScores(again.url, known)).toEqual(scores);
  expect(await adapted(again.url, 'one', [])).toBe(true);
  while ((await liveScores(again.url, ['two'])).length !== 1);
  for (let ownCount = 0; ownCount < ASKED;)
    ownCount = isDeepStrictEqual((await scoresOf(again.url, ['one', 'two'])).live, [1])
      ? ownCount + 1
      : 0;
  // What one process has stored of an adgroup is soon known to every other one.
  const paused = await fetch(`${again.url}/v1/adgroups`, {
    ...{ method: 'POST', headers: { 'content-type': 'application/json', connection: 'close' } },
    body: JSON.stringify({ adgroup: 'two', state: 'paused' }),
  });
  expect(paused.status).toBe(200);
  for (let ownCount = 0; ownCount < ASKED;)
    ownCount = Number.isFinite((await scoresOf(again.url, ['one', 'two'])).scores[1])
      ? 0
      : ownCount + 1;
  await again.stop();
});
