/**
 * What a server showed trains the next model as a file with the same rows would, bit for bit: `qianmo serve --rows`, killed on the
 * way, then `qianmo refresh` and `qianmo start` on the address of its log.
 */

import { readdir, readFile } from 'node:fs/promises';
import { gunzipSync } from 'node:zlib';
import { beforeAll, expect, test, vi } from 'vitest';
import { randomStream } from '../../../shared/base/random.js';
import { commandRoom, exportSmallRun } from '../../fixtures/commands/command-room.js';
import { serveCommand, type ServedCommand } from '../../fixtures/serving/served-command.js';
import { posted } from '../../fixtures/serving/served-export.js';
import { openedOnce } from '../../fixtures/opened.js';

const WINDOW_SECONDS = 1;
const ROWS_SECONDS = 1;
const SLOTS = 3;

const room = openedOnce(commandRoom);
/** The rows as somebody would log them who joins requests, answers and feedback. */
const written: object[] = [];
const random = randomStream(5, 'served rows');

function served(): Promise<ServedCommand> {
  const words = ['--explore', 'policy.yaml', '--rows', 'rows', '--state', 'state'];
  return serveCommand(room.folder, 'small/bundles', [
    ...words,
    '--rows-seconds',
    `${ROWS_SECONDS}`,
  ]);
}

/** Ranks some adgroups for a user, of which one may click, and reports it, some events twice. */
async function rankedAndReported(url: string, second: number): Promise<void> {
  const names = ['g1', 'g4', 'g9', 'new1', 'new2'];
  const context = { user: `u${random.below(32)}`, second };
  const candidates = random.shuffle([...names.keys()]).map((place) => ({
    ...{ adgroup: names[place]!, bid: 1 + random.below(3) },
    features: { site: `s${random.below(9)}`, age: 20 + random.below(40) },
  }));
  const ranked = await posted(`${url}/v1/rank`, { context, candidates, slots: SLOTS });
  expect(ranked.status, JSON.stringify(ranked.body)).toBe(200);
  const { order, exploration } = ranked.body as unknown as {
    readonly order: readonly number[];
    readonly exploration: { readonly events: readonly string[] };
  };
  // The last place is not rendered.
  const rendered = exploration.events.slice(0, SLOTS - 1);
  const clicked = random.below(rendered.length + 1);
  const events = rendered.flatMap((event, slot) => [
    { kind: 'impression', event },
    ...(slot === clicked ? [{ kind: 'outcome', event }] : []),
  ]);
  for (const sent of [events, events.slice(0, 1)])
    expect(await posted(`${url}/v1/feedback`, { events: sent })).toMatchObject({ status: 200 });
  for (const slot of rendered.keys()) {
    const { adgroup, features } = candidates[order[slot]!]!;
    written.push({ adgroup, ...context, ...features, clicked: Number(slot === clicked) });
  }
}

beforeAll(async () => {
  await exportSmallRun(room, ({ data }) => void (data['rowSplit'] = { by: 'time' }));
  await room.copy('store', 'first/store');
  await room.copy('small', 'first/small');
  const exploration = { mode: 'off', feedback: { windowSeconds: WINDOW_SECONDS } };
  await room.write('policy.yaml', JSON.stringify({ exploration }));
  for (const first of [100, 130]) {
    const server = await served();
    for (let second = first; second < first + 30; second += 1)
      await rankedAndReported(server.url, second);
    if (first === 100) {
      server.command.signal('SIGKILL');
      expect((await server.command.ended).signal).toBe('SIGKILL');
    } else await server.stop();
  }
  await room.write('written.jsonl', written.map((row) => `${JSON.stringify(row)}\n`).join(''));
  const completeMs = Date.now() + 1_000 * (WINDOW_SECONDS + 2 * ROWS_SECONDS);
  await vi.waitFor(() => expect(Date.now()).toBeGreaterThan(completeMs), 20_000);
});

interface Refreshed {
  readonly digest: string;
  readonly append: { readonly logRowCount: number; readonly newTaskCount: number } | null;
}

async function refreshedFrom(logs: string): Promise<Refreshed> {
  await room.copy('first/store', 'store');
  await room.copy('first/small', 'small');
  return refreshed(logs);
}

async function refreshed(logs: string): Promise<Refreshed> {
  const words = ['refresh', 'small.yaml', '--logs', logs, '--outer-steps', '4'];
  return JSON.parse(await room.done([...words, '--format', 'json'])) as Refreshed;
}

async function jsonAt(path: string): Promise<Record<string, unknown>> {
  return JSON.parse(await readFile(room.path(path), 'utf8')) as Record<string, unknown>;
}

/** What the store and the bundle hold, but for the names by which the store knows the logs. */
async function contentOf({ digest }: Refreshed): Promise<object> {
  const { files } = await jsonAt('store/manifest.json');
  const { provenance, ...bundle } = await jsonAt(`small/bundles/manifests/${digest}.json`);
  const { checkpoint } = provenance as { readonly checkpoint: { readonly digest: string } };
  return { files, bundle, trained: checkpoint.digest };
}

test('a refresh on served rows is one on a file with the same rows, and takes each row once', async () => {
  const ofFile = await refreshedFrom('written.jsonl');
  const expected = await contentOf(ofFile);
  const ofServed = await refreshedFrom('rows');
  expect(ofServed.append).toMatchObject({ logRowCount: 120, newTaskCount: 2 });
  expect(await contentOf(ofServed)).toEqual(expected);
  expect(await refreshed('rows')).toMatchObject({ append: null, digest: ofServed.digest });
});

test('each score is computed again from the bundle and the log, and a changed one is found', async () => {
  const words = ['ope', 'rows', '--replay', '--bundles', 'first/small/bundles', '--format', 'json'];
  const replayed = JSON.parse(await room.done(words)) as { readonly scores: object };
  expect(replayed.scores).toMatchObject({
    ...{ rowCount: 180, differingCount: 0, liveCount: 0, leftOutCount: 0 },
  });
  const name = (await readdir(room.path('rows'))).find((each) => each.endsWith('.gz'))!;
  const text = gunzipSync(await readFile(room.path(`rows/${name}`))).toString('utf8');
  await room.write('changed.ndjson', text.replace(/"probability":\[[^,]+/, '"probability":[0.123'));
  const changed = await room.ended(words.with(1, 'changed.ndjson'));
  expect(changed.exitCode).toBe(1);
  expect(JSON.parse(changed.output)).toMatchObject({ scores: { differingCount: 1 } });
});

test('a config is made of the address alone, without the columns of the server among its features', async () => {
  await room.done(['init', 'rows', '--out', 'served.yaml']);
  const text = await readFile(room.path('served.yaml'), 'utf8');
  const [, data = ''] = text.split(/^data:$/m);
  expect(data).toMatch(/^ +task: served_adgroup/m);
  expect(data).toMatch(/^ +label: \{ column: served_click \}/m);
  expect(data).toMatch(/^ +time: served_time/m);
  const features = [...data.matchAll(/\{ name: (\w+)/g)].map(([, name]) => name);
  expect(features).toEqual(expect.arrayContaining(['user', 'site', 'age']));
  expect(features.filter((name) => name?.startsWith('served') === true)).toEqual([]);
  expect(features).not.toContain('adgroup');
});
