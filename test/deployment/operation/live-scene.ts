/** A small run with a worker and a server of its own, as processes, and what their endpoints say meanwhile. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startEmbeddedRedis } from '#bootstrap/embedded-redis.mjs';
import { startCommand, type RunningCommand } from '../../fixtures/commands/command.js';
import { MOVIELENS_DATA } from './movielens-data.js';

export interface SeenScene {
  /** By endpoint, what it answered to a scrape. */
  readonly scrapes: Readonly<Record<'coordinator' | 'worker' | 'dashboard' | 'server', string>>;
  readonly workersWanted: unknown;
}

/** Servers that explore have the metrics of calibration, which rules and dashboards name. */
const POLICY = '{"exploration":{"mode":"active","policy":"thompson","slots":[1]}}';

const SERVED = /"?url"?:"(http:[^"]+)"/;
const METRICS_SERVED = /"metrics-served","url":"(http:[^"]+)"|metrics: (http:\S+)\/metrics/;

/** @param folder an empty one. */
export async function seenScene(folder: string, say: (text: string) => void): Promise<SeenScene> {
  const redis = await startEmbeddedRedis({ dataDir: join(folder, 'redis') });
  const running: RunningCommand[] = [];
  const environment = {
    QIANMO_REDIS_URL: redis.url,
    QIANMO_STORE_ALLOW: folder,
  };
  const start = (words: string[]): RunningCommand => {
    const command = startCommand(words, folder, environment);
    running.push(command);
    return command;
  };
  const done = async (words: string[]): Promise<void> => {
    const { exitCode, diagnostics } = await start(words).ended;
    if (exitCode !== 0) throw new Error(`qianmo ${words.join(' ')}: ${diagnostics}`);
  };
  try {
    say('preparing, training with a worker');
    writeFileSync(join(folder, 'watched.yaml'), CONFIG);
    await done(['prepare', 'watched.yaml']);
    const worker = start(['worker', '--metrics-port', '0', '--format', 'json']);
    const atWorker = urlOf(await worker.printed(METRICS_SERVED));
    const dashboard = start(['dashboard', '--port', '0', '--format', 'json']);
    const [, board = ''] = await dashboard.printed(SERVED);
    const training = start([
      ...['train', 'watched.yaml', '--metrics-port', '0', '--log-format', 'json'],
      ...['--format', 'json'],
    ]);
    const atCoordinator = urlOf(await training.saw(METRICS_SERVED));
    await training.saw(/"outerStep":3,"kind":"outer-step",/);
    const coordinator = await textAt(`${atCoordinator}/metrics`);
    const workersWanted: unknown = JSON.parse(await textAt(`${atCoordinator}/workers-wanted`));
    const scraped = {
      coordinator,
      worker: await textAt(`${atWorker}/metrics`),
      dashboard: await textAt(`${new URL(board).origin}/metrics`),
    };
    await training.ended;
    say('serving with two processes');
    await done(['evaluate', 'watched.yaml']);
    await done(['export', 'watched.yaml']);
    writeFileSync(join(folder, 'policy.json'), POLICY);
    const server = await scrapedServer(start, redis.url);
    return { scrapes: { ...scraped, server }, workersWanted };
  } finally {
    for (const command of running) command.signal('SIGTERM');
    await Promise.all(running.map((command) => command.ended));
    await redis.stop();
  }
}

async function scrapedServer(
  start: (words: string[]) => RunningCommand,
  redisUrl: string,
): Promise<string> {
  const server = start([
    ...['serve', '--bundle', 'watched/bundles', '--port', '0', '--metrics-port', '0'],
    ...['--processes', '2', '--format', 'json', '--explore', 'policy.json', '--state', 'state'],
    ...['--redis', redisUrl],
  ]);
  const atMetrics = urlOf(await server.saw(METRICS_SERVED));
  const [, url = ''] = await server.printed(SERVED);
  const answer = await fetch(`${url}/v1/rank`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ context: { user: '1' }, candidates: [{ adgroup: 'nobody' }] }),
  });
  await answer.text();
  await textAt(`${url}/v1/bundle`);
  return textAt(`${atMetrics}/metrics`);
}

function urlOf([, ofEvent, ofSentence]: RegExpExecArray): string {
  return ofEvent ?? ofSentence ?? '';
}

async function textAt(url: string): Promise<string> {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url} answers ${answer.status}`);
  return answer.text();
}

const CONFIG = `run: watched
${MOVIELENS_DATA}model: { kind: logistic, hiddenWidths: [] }
method: { kind: fomaml, innerSteps: 1, innerRate: 0.1 }
training: { outerSteps: 120, tasksPerOuterStep: 16, leavesPerOuterStepMin: 4 }
output: watched
`;
