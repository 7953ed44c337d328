/**
 * `qianmo serve --explore` as a user calls it: decisions are logged with their propensities and repeat, feedback counts
 * once whoever is killed, and servers share what they learn.
 */

import { writeFile } from 'node:fs/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { FileObjectStore } from '../../../shared/storage/file-object-store.js';
import { commandRoom } from '../../fixtures/commands/command-room.js';
import { redisForTest } from '../../fixtures/queue/redis-for-test.js';
import { decide } from '../../../worker/serving/exploration/chooser.js';
import { decisionLine, inputOf, rowLogHead, settingsOf } from '../../fixtures/decision-input.js';
import { serveCommand, type ServedCommand } from '../../fixtures/serving/served-command.js';
import { exportTwoBundles, posted } from '../../fixtures/serving/served-export.js';
import { openedOnce } from '../../fixtures/opened.js';

/** An exploring slot chooses among the four adgroups that are left: the best one has 5/8, the others 1/8. */
const POLICY = {
  mode: 'active',
  policy: 'epsilon-greedy',
  share: { kind: 'fixed', share: 0.5 },
  slots: [2],
};

const room = openedOnce(commandRoom);
beforeAll(async () => {
  await exportTwoBundles(new FileObjectStore({ folder: room.path('bundles') }));
  await room.write('policy.yaml', JSON.stringify({ exploration: POLICY }));
});

function served(state: string, ...options: string[]): Promise<ServedCommand> {
  const words = ['--explore', 'policy.yaml', '--state', state, ...options];
  return serveCommand(room.folder, 'bundles', words);
}

interface Explored {
  readonly order: readonly number[];
  readonly exploration: {
    readonly decision: string;
    readonly events: readonly string[];
    readonly isExploration: readonly boolean[];
    readonly propensities: readonly number[];
  };
}

/** Adgroups whose label is a click. */
const ADGROUPS = ['task0', 'task2', 'task4', 'task6', 'nobody'];
const features = { category1: 'category1-1', bag0: ['bag0-1'], number0: 0.5 };

async function ranked(url: string, fields: object = {}): Promise<Explored> {
  const { status, body } = await posted(`${url}/v1/rank`, {
    context: { category0: 'category0-3' },
    candidates: ADGROUPS.map((adgroup) => ({ adgroup, features })),
    slots: 3,
    ...fields,
  });
  expect(status, JSON.stringify(body)).toBe(200);
  return body as unknown as Explored;
}

async function receiptsOf(url: string, events: readonly object[]): Promise<readonly string[]> {
  const { status, body } = await posted(`${url}/v1/feedback`, { events });
  expect(status, JSON.stringify(body)).toBe(200);
  return body['receipts'] as readonly string[];
}

const impressions = ({ exploration }: Explored): object[] =>
  exploration.events.map((event) => ({ kind: 'impression', event }));

describe('exploration', () => {
  test('shows an adgroup once, by its most valuable material', async () => {
    const server = await served('materials');
    const materials = [0.5, 4, -4].map((number0) => ({ ...features, number0 }));
    const candidates = ADGROUPS.flatMap((adgroup) =>
      materials.map((each) => ({ adgroup, features: each })),
    );
    for (let request = 0; request < 20; request += 1) {
      const body = await ranked(server.url, { candidates });
      const { order, values } = body as Explored & { readonly values: readonly number[] };
      const shown = order.slice(0, 3).map((place) => Math.floor(place / materials.length));
      expect(new Set(shown).size).toBe(3);
      for (const [slot, adgroup] of shown.entries()) {
        const own = values.slice(adgroup * materials.length, (adgroup + 1) * materials.length);
        expect(values[order[slot] ?? -1]).toBe(Math.max(...own));
      }
    }
    // Its beats would change files of the room during the next tests.
    await server.stop();
  });

  test('is in the declared slot with its share, and decisions repeat bit for bit', async () => {
    const server = await served('explored');
    const slates: Explored[] = [];
    for (let request = 0; request < 200; request += 1) slates.push(await ranked(server.url));
    const explored = slates.filter(({ exploration }) => exploration.isExploration[1]);
    // The policy may choose the best one that is left: then nothing is explored.
    expect(explored.length).toBeGreaterThan(35);
    expect(explored.length).toBeLessThan(115);
    for (const { order, exploration } of slates) {
      expect(exploration.isExploration[0]).toBe(false);
      expect(exploration.propensities.slice(0, 2)).toEqual([
        ...[1, exploration.isExploration[1] ? 0.125 : 0.625],
      ]);
      expect([...order].sort()).toEqual([0, 1, 2, 3, 4]);
    }
    const [slate] = slates;
    const [first = '', second = ''] = slate?.exploration.events ?? [];
    const feedback = [
      { kind: 'impression', event: first },
      { kind: 'outcome', event: first },
      { kind: 'outcome', event: first, reward: 0.5 },
      { kind: 'outcome', event: `${second}x` },
      { kind: 'impression', event: second, epochMs: Date.now() - 7_200_000 },
      { kind: 'outcome', event: second, epochMs: Date.now() },
    ];
    expect(await receiptsOf(server.url, feedback)).toEqual([
      ...['counted', 'counted', 'duplicate', 'unknown', 'counted', 'late'],
    ]);
    for (const each of slates) await receiptsOf(server.url, impressions(each));
    await server.stop();

    const log = 'explored/rows';
    expect(await room.done(['ope', log, '--replay'])).toMatch(/200 of 200 decisions/);
    const none = 'the log holds no choice that can be judged';
    await room.refused(['ope', log], {
      ...{ exitCode: 1, what: new RegExp(none), cure: /judge later.*feedback.windowSeconds/ },
      found: /200 decisions and 3 outcomes. Not used: .* 600 slots whose window had not ended/,
    });
    // An hour later, by another policy: the file of `serve --explore` is one.
    const later = decide(inputOf(settingsOf(), { id: 'later', epochMs: Date.now() + 3_700_000 }));
    await writeFile(
      room.path('later.ndjson'),
      rowLogHead(later.input.settings) + decisionLine(later),
    );
    const judged = JSON.parse(
      await room.done(['ope', log, 'later.ndjson', '--policy', 'policy.yaml', '--format', 'json']),
    ) as { readonly log: object; readonly rowCount: number };
    expect(judged.log).toMatchObject({ decisionCount: 201, outcomeCount: 3, duplicateCount: 1 });
    expect(judged.rowCount).toBe(600);
  });

  test('ends at the cut-off, though no impression is reported', async () => {
    const exploration = { ...POLICY, cutOff: { impressions: 3 } };
    await room.write('policy.yaml', JSON.stringify({ exploration }));
    const server = await served('cut-off');
    const explored: string[] = [];
    for (let request = 0; request < 80; request += 1) {
      const { order, exploration: own } = await ranked(server.url);
      if (own.isExploration[1] === true) explored.push(String(ADGROUPS[order[1] ?? NaN]));
    }
    const counts = ADGROUPS.map((name) => explored.filter((each) => each === name).length);
    expect(explored.length).toBeGreaterThan(0);
    expect(Math.max(...counts)).toBeLessThanOrEqual(3);
    await server.stop();
    await room.write('policy.yaml', JSON.stringify({ exploration: POLICY }));
  });

  test('by an apprentice is logged, and the best ones are shown', async () => {
    const exploration = { ...POLICY, mode: 'apprentice' };
    await room.write('policy.yaml', JSON.stringify({ exploration }));
    const server = await served('apprentice');
    const slates = [];
    for (let request = 0; request < 20; request += 1)
      slates.push(await ranked(server.url, { seed: request }));
    expect(new Set(slates.map(({ order }) => order.join())).size).toBe(1);
    expect(slates.flatMap(({ exploration: own }) => own.isExploration)).not.toContain(true);
    expect(await receiptsOf(server.url, impressions(slates[0]!))).toEqual(Array(3).fill('counted'));
    const words = ['serve', '--bundle', 'bundles', '--port', '0', '--explore', 'policy.yaml'];
    await room.refused([...words, '--state', 'apprentice'], {
      ...{ exitCode: 2, what: /another process/, cure: /--state/ },
    });
    await server.stop();
    await room.write('policy.yaml', JSON.stringify({ exploration: POLICY }));
    const log = 'apprentice/rows';
    expect(await room.done(['ope', log, '--replay'])).toMatch(/20 of 20 decisions/);
    await room.refused(['ope', log], {
      ...{ exitCode: 1, what: /no choice that can be judged/, cure: /repeated with --replay/ },
    });
  });
});

describe('feedback', () => {
  test('to one server is known to the others that share a Redis, as is its key', async () => {
    const redis = await redisForTest();
    const redisWords = ['--redis', redis.url];
    const servers = [
      await served('one', ...redisWords),
      await served('two', ...redisWords, '--bundle', `file://${room.path('bundles')}/`),
    ] as const;
    const slate = await ranked(servers[0].url);
    expect(await receiptsOf(servers[0].url, impressions(slate))).toEqual(Array(3).fill('counted'));
    expect(await receiptsOf(servers[1].url, impressions(slate))).toEqual(
      Array(3).fill('duplicate'),
    );
    await redis.server.kill();
    expect(
      await posted(`${servers[1].url}/v1/feedback`, { events: impressions(slate) }),
    ).toMatchObject({
      ...{ status: 503, body: { reason: 'not-durable' } },
    });
    // Exploration goes on with the evidence so far.
    expect((await ranked(servers[1].url)).exploration.events).toHaveLength(3);
    for (const server of servers) await server.stop();
    await redis.close();
  });
});

test("several processes share evidence in a folder, and accept each other's ids", async () => {
  const server = await served('several', '--processes', '2');
  const slates = [];
  for (let request = 0; request < 12; request += 1) slates.push(await ranked(server.url));
  // Each request is a connection, and they take turns.
  for (const slate of slates)
    expect(await receiptsOf(server.url, impressions(slate))).toEqual(Array(3).fill('counted'));
  for (const slate of slates)
    expect(await receiptsOf(server.url, impressions(slate))).toEqual(Array(3).fill('duplicate'));
  await server.stop();
});

describe('what is refused', () => {
  test('is exploration without a place for its state', async () => {
    await room.refused(['serve', '--bundle', 'bundles', '--explore', 'policy.yaml'], {
      ...{ exitCode: 2, what: /needs a place for its state/, cure: /--state/ },
    });
  });
});
