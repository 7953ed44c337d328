/**
 * The whole life of a model from the manifests that people apply, as real processes on a Redis server: the containers
 * of the Job, whose pod is taken away once, those of the CronJob, and a server that ranks.
 */

import { mkdir, readFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { containersIn, documentsIn, KUBERNETES_LIFE } from '../../deployment/manifests.js';
import { placedWords } from '../../deployment/placed-words.js';
import { commandRoom, EXPORT_EVALUATION } from '../../fixtures/commands/command-room.js';
import type { RunningCommand } from '../../fixtures/commands/command.js';
import { laterLog } from '../../fixtures/commands/small-run.js';
import { openedOnce } from '../../fixtures/opened.js';
import { redisForTest } from '../../fixtures/queue/redis-for-test.js';
import { posted } from '../../fixtures/serving/served-export.js';

const TOKEN = 'a-token-of-this-test-alone';
const OUTER_STEPS = 24;
const ANY_TEXT = expect.any(String) as string;
const PolicyMap = z.looseObject({ data: z.looseObject({ 'policy.yaml': z.string() }) });
const digestIn = (output: string): string => /digest ([0-9a-f]+)/.exec(output)?.[1] ?? 'none';
/** Read before the test changes its folder. */
const containers = containersIn(KUBERNETES_LIFE);
const [policy = ''] = documentsIn(KUBERNETES_LIFE).flatMap(
  (document) => PolicyMap.safeParse(document).data?.data['policy.yaml'] ?? [],
);

const room = openedOnce(commandRoom);
const redis = openedOnce(redisForTest);
const running: RunningCommand[] = [];

beforeAll(async () => {
  await mkdir(room.path('data'));
  await room.config('run', (config) => {
    Object.assign(config.data, { store: 'data/store', rowSplit: { by: 'time' } });
    Object.assign(config.training, { outerSteps: OUTER_STEPS });
    Object.assign(config, { output: 'data/run', evaluation: EXPORT_EVALUATION, queue: {} });
  });
  await room.write('later.csv', laterLog());
  await room.write('policy.yaml', policy);
  await room.write('token', TOKEN);
});

afterAll(async () => {
  for (const command of running) {
    command.signal('SIGKILL');
    await command.ended;
  }
});

function started(words: readonly string[]): RunningCommand {
  const placed = placedWords(words, room.folder);
  const command = room.start(placed, { QIANMO_REDIS_URL: redis.url });
  running.push(command);
  return command;
}

/** The commands of the containers of a kind of workload, in the order in which its pod runs them. */
const commandsOf = (kind: string, image: string): string[][] =>
  containers
    .filter((each) => each.kind === kind && each.container.image.includes(`qianmo-${image}:`))
    .map(({ container }) => container.args);

async function runPod(commands: readonly string[][]): Promise<string[]> {
  const outputs: string[] = [];
  for (const words of commands) {
    const { exitCode, output, diagnostics } = await started(words).ended;
    expect(exitCode, `${words.join(' ')}\n${diagnostics}`).toBe(0);
    outputs.push(output);
  }
  return outputs;
}

test('prepares, trains, evaluates and exports, refreshes and ranks', async () => {
  const [worker = []] = commandsOf('Deployment', 'worker');
  started(worker);
  const steps = commandsOf('Job', 'coordinator');
  expect(steps.map(([verb]) => verb)).toEqual(['prepare', 'train', 'evaluate', 'export']);

  await runPod(steps.slice(0, 1));
  const trained = started(steps[1] ?? []);
  await trained.saw(/checkpoint of outer step/);
  trained.signal('SIGTERM');
  expect((await trained.ended).exitCode).toBe(4);

  const [, resumed = ''] = await runPod(steps);
  expect(resumed).toContain(`${OUTER_STEPS} outer steps`);
  // A pod that starts again after everything is done changes no parameters.
  const [, repeated = ''] = await runPod(steps);
  expect(digestIn(repeated)).toBe(digestIn(resumed));

  const label = (): Promise<string> =>
    readFile(room.path('data/run/bundles/labels/latest.json'), 'utf8');
  const exported = await label();
  const refresh = commandsOf('CronJob', 'coordinator');
  await runPod(refresh);
  const refreshed = await label();
  expect(refreshed).not.toBe(exported);
  // The same rows change nothing.
  await runPod(refresh);
  expect(await label()).toBe(refreshed);

  const [serve = []] = commandsOf('StatefulSet', 'server');
  const server = started(serve);
  const [, url = ''] = await server.printed(/rankings: (\S+)\/v1\/rank/);
  const candidates = ['g1', 'new1', 'nobody'].map((adgroup) => ({
    ...{ adgroup, bid: 1 },
    features: { site: 's1', age: 30 },
  }));
  const request = { context: { user: 'u1', second: 40 }, candidates, slots: 2 };
  const authorization = `Bearer ${TOKEN}`;
  const ranked = await posted(`${url}/v1/rank`, request, { authorization });
  expect(ranked.status, JSON.stringify(ranked.body)).toBe(200);
  expect(ranked.body).toMatchObject({ exploration: { events: [ANY_TEXT, ANY_TEXT] } });
  server.signal('SIGTERM');
  expect((await server.ended).exitCode).toBe(0);
});
