/**
 * `qianmo refresh --follow` as a user calls it: a bundle gets the label after it was judged on later rows, and loses it to the one
 * before when that does better. Killed at any stage it takes each row once and ends with the same labels.
 */

import { mkdir, readFile, rename } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';
import { beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { randomStream } from '../../../shared/base/random.js';
import { feedbackLine, rankingLine, settingsLine } from '../../../shared/config/row-record.js';
import type { RunningCommand } from '../../fixtures/commands/command.js';
import { commandRoom, exportSmallRun } from '../../fixtures/commands/command-room.js';
import { settingsOf } from '../../fixtures/decision-input.js';
import { openedOnce } from '../../fixtures/opened.js';

const FIRST_MS = 1_700_000_000_000;
const JUDGE_ROWS = 100;
const ADGROUPS = Array.from({ length: 10 }, (_, place) => `g${place}`);
const WORDS = ['refresh', 'small.yaml', '--logs', 'rows', '--follow', '--format', 'json'];
const OPTIONS = ['--interval-seconds', '0.2', '--judge-rows', `${JUDGE_ROWS}`];

const TRAINING = ['--outer-steps', '4', '--trunk-seconds', '0'];

const room = openedOnce(commandRoom);
let first: string;
beforeAll(async () => {
  const rowSplit = { by: 'time', supportRowsMax: 200, queryRowsMax: 200 };
  await exportSmallRun(room, ({ data }) => void Object.assign(data, { rowSplit }), '--rows', 'all');
  for (const name of ['store', 'small']) await room.copy(name, `first/${name}`);
  await mkdir(room.path('first/rows'));
  first = (await labels())['latest']!.bundle;
});
beforeEach(asAtFirst);

async function asAtFirst(): Promise<void> {
  for (const name of ['store', 'small', 'rows']) await room.copy(`first/${name}`, name);
}

interface Label {
  readonly bundle: string;
  readonly earlier: readonly string[];
  readonly left: readonly string[];
}

async function labels(): Promise<Partial<Record<'latest' | 'latest-next', Label>>> {
  const read = async (name: string): Promise<Label | undefined> =>
    JSON.parse(
      await readFile(room.path(`small/bundles/labels/${name}.json`), 'utf8').catch(() => 'null'),
    ) as Label | undefined;
  return { latest: (await read('latest'))!, 'latest-next': (await read('latest-next'))! };
}

/** A file of a row log: each adgroup is shown so often, and is clicked or not. */
async function serve(file: number, rowsPerAdgroup: number, isClicked: boolean): Promise<void> {
  const random = randomStream(file, 'followed rows');
  const lines = [settingsLine(settingsOf({ mode: 'off', feedback: { windowSeconds: 1 } }), 1)];
  for (let request = 0; request < rowsPerAdgroup; request += 1) {
    const [id, epochMs] = [`${file}-${request}`, FIRST_MS + 1_000_000 * file + 1_000 * request];
    const shown = ADGROUPS.map((adgroup) => ({
      ...{ adgroup, segment: null, bid: 1, probability: 0.5, propensity: 1, isExploration: false },
    }));
    const of = (value: () => unknown): unknown[] => ADGROUPS.map(value);
    const features = {
      adgroup: ADGROUPS,
      site: of(() => `s${random.below(8)}`),
      age: of(() => 20 + random.below(40)),
    };
    const context = { user: `u${random.below(30)}`, second: 1_000 * file + request };
    const ranking = { id, epochMs, bundle: 'b'.repeat(64), context, shown, features };
    lines.push(rankingLine({ ...ranking, decision: null }));
    const events = ADGROUPS.flatMap((_, place) => {
      const event = { decision: id, slot: place + 1, value: null, epochMs };
      return [{ ...event, reward: null }, ...(isClicked ? [{ ...event, reward: 1 }] : [])];
    });
    lines.push(feedbackLine(events));
  }
  const time = String(FIRST_MS + 1_000_000 * file).padStart(15, '0');
  await room.write('written', gzipSync(lines.join('')));
  await rename(
    room.path('written'),
    room.path(`rows/rows-${time}-${'0'.repeat(16)}-000001.ndjson.gz`),
  );
}

function follow(more: readonly string[] = []): RunningCommand {
  return room.start([...WORDS, ...OPTIONS, ...more]);
}

async function stop(running: RunningCommand): Promise<void> {
  running.signal('SIGTERM');
  const { exitCode, diagnostics } = await running.ended;
  expect(exitCode, diagnostics).toBe(0);
}

const made = (count: number): RegExp => new RegExp(`(candidate-made[^]*){${count}}`);
const judged = (verdict: string): RegExp => new RegExp(`"verdict":"${verdict}".*`);

async function appendedCounts(): Promise<number[]> {
  const text = await readFile(room.path('store/manifest.json'), 'utf8');
  const { appends } = JSON.parse(text) as { readonly appends: { readonly logRowCount: number }[] };
  return appends.map(({ logRowCount }) => logRowCount);
}

test('a bundle gets the label on later rows, and loses it when the one before does better', async () => {
  const running = follow();
  await serve(1, 20, true);
  await running.printed(made(1));
  expect((await labels()).latest!.bundle).toBe(first);
  const candidate = (await labels())['latest-next']!.bundle;
  await serve(2, 20, true);
  await running.printed(judged('labelled'));
  await running.printed(made(2));
  expect((await labels()).latest).toMatchObject({ bundle: candidate, earlier: [first] });
  await serve(3, 150, false);
  const [line] = await running.printed(judged('rolled-back'));
  expect(line).toMatch(/"rowCount":1700,"adgroupCount":10/);
  await running.printed(made(3));
  await stop(running);
  expect((await labels()).latest).toMatchObject({ bundle: first, earlier: [], left: [candidate] });
  expect(await appendedCounts()).toEqual([200, 200, 1500]);
});

test('a bundle that is worse on later rows does not get the label, and is not made again', async () => {
  await serve(1, 40, true);
  const running = follow();
  await running.printed(made(1));
  const candidate = (await labels())['latest-next']!.bundle;
  await serve(2, 20, false);
  await running.printed(judged('rejected'));
  await running.printed(made(2));
  await stop(running);
  const { latest, 'latest-next': next } = await labels();
  expect(latest!.bundle).toBe(first);
  expect(next).toMatchObject({ earlier: [first], left: [candidate] });
});

/** Follows two files of rows until a bundle of both is a candidate. */
async function followed(endAt: (running: RunningCommand, stage: RegExp) => Promise<void>) {
  await asAtFirst();
  await serve(1, 20, true);
  await endAt(follow(TRAINING), /"code":"logs-appended"/);
  await endAt(follow(TRAINING), made(1));
  await serve(2, 20, true);
  await endAt(follow(TRAINING), judged('labelled'));
  const running = follow(TRAINING);
  await vi.waitFor(async () => {
    const { latest, 'latest-next': next } = await labels();
    expect(latest!.earlier).toEqual([first]);
    expect(next!.bundle).not.toBe(latest!.bundle);
  }, 60_000);
  await stop(running);
  return { ...(await labels()), rows: await appendedCounts() };
}

test('a process that is killed at any stage takes each row once and ends with the same labels', async () => {
  const stopped = await followed(async (running, stage) => {
    await running.printed(stage);
    await stop(running);
  });
  expect(stopped.rows).toEqual([200, 200]);
  const killed = await followed(async (running, stage) => {
    await running.printed(stage);
    running.signal('SIGKILL');
    expect((await running.ended).signal).toBe('SIGKILL');
  });
  expect(killed).toEqual(stopped);
});
