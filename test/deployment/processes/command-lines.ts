/**
 * The command lines of `infra/deploy` as processes: each with its own words, in which addresses and files are
 * those of a small run, on a Redis whose user has the rights of the compose file.
 */

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { Redis } from 'ioredis';
import {
  startEmbeddedRedis,
  type EmbeddedRedis,
} from '../../../infra/bootstrap/embedded-redis.mjs';
import { laterLog, smallLog, smallRun } from '../../fixtures/commands/small-run.js';
import type { Checks } from '../checks.js';
import { DEPLOY, deployedCommands } from '../manifests.js';
import { placedWords } from '../placed-words.js';
import { digestIn, endedWith, run, startProgram, type RunningProgram } from '../programs.js';

const OUTER_STEPS = 8;
export const COMMAND = resolve('dist/infra/cli/main.js');
const TOKEN = 'a-token-of-this-check-alone';

export interface Place {
  readonly folder: string;
  readonly redis: EmbeddedRedis;
  readonly environment: Readonly<Record<string, string>>;
}

/** The policy of the values of the chart. */
const POLICY =
  'exploration: { mode: active, policy: thompson, slots: [2], share: { kind: fixed, share: 0.1 } }';

/** A log, later rows, a policy, a token and a Redis with the user of the compose file. */
export async function openPlace(folder: string): Promise<Place> {
  const redis = await startEmbeddedRedis({ dataDir: join(folder, 'redis') });
  const environment = {
    QIANMO_REDIS_URL: await addressOfUser(folder, redis),
    // The image's own command has no token file.
    QIANMO_SERVE_TOKEN: TOKEN,
  };
  await mkdir(join(folder, 'data'));
  await writeFile(join(folder, 'log.csv'), smallLog());
  await writeFile(join(folder, 'later.csv'), laterLog());
  await writeFile(join(folder, 'policy.yaml'), POLICY);
  await writeFile(join(folder, 'token'), TOKEN);
  await writeRun(folder, 'run', OUTER_STEPS);
  return { folder, redis, environment };
}

/** `qianmo` with the address of Redis in its environment. */
export function startQianmo(words: readonly string[], place: Place): RunningProgram {
  const { folder, environment } = place;
  return startProgram(process.execPath, [COMMAND, ...words], { folder, environment });
}

/** Reads `log.csv`, has the default prefix, and keeps everything in `data`. */
export async function writeRun(folder: string, name: string, outerSteps: number): Promise<string> {
  const { queue: _own, ...plain } = smallRun(name, outerSteps);
  const store = join(folder, 'data/store');
  const data = { ...plain.data, store, rowSplit: { by: 'time' } };
  const written = { ...plain, data, output: join(folder, 'data', name) };
  const path = join(folder, `${name}.yaml`);
  await writeFile(path, JSON.stringify(written));
  return path;
}

/** The user whom `make-secrets.sh` describes, made on this server. */
async function addressOfUser(folder: string, redis: EmbeddedRedis): Promise<string> {
  const secrets = join(folder, 'secrets');
  await run('bash', join(DEPLOY, 'compose/make-secrets.sh'), secrets);
  const users = await readFile(join(secrets, 'redis-users.acl'), 'utf8');
  const [, , ...rules] = (/^user qianmo .*$/m.exec(users)?.[0] ?? '').split(' ');
  const connection = new Redis(redis.url);
  try {
    await connection.call('ACL', 'SETUSER', 'qianmo', ...rules);
  } finally {
    connection.disconnect();
  }
  const variables = await readFile(join(secrets, 'qianmo.env'), 'utf8');
  const address = new URL(/^QIANMO_REDIS_URL=(.*)$/m.exec(variables)?.[1] ?? '');
  address.hostname = '127.0.0.1';
  address.port = String(redis.port);
  return address.href;
}

/** Each distinct command line, with the places that have it. */
function distinctCommands(folder: string): (readonly [words: string[], places: string[]])[] {
  const found = new Map<string, [string[], string[]]>();
  for (const { place, words } of deployedCommands()) {
    const placed = placedWords(words, folder);
    const known = found.get(placed.join(' ')) ?? [placed, []];
    known[1].push(place);
    found.set(placed.join(' '), known);
  }
  return [...found.values()];
}

/** Starts it, waits until it says that it is ready, asks it to stop, and expects its end. */
async function startAndStop(
  words: readonly string[],
  ready: RegExp,
  place: Place,
): Promise<string> {
  // A worker takes stores in its working folder where it is not told otherwise.
  const command = startQianmo(words, place);
  await command.saw(ready);
  command.signal('SIGTERM');
  endedWith(await command.ended, 0);
  return 'started; ended with 0 after SIGTERM';
}

/** Runs it to its end, with a worker that computes its jobs. */
async function runToEnd(words: readonly string[], place: Place): Promise<string> {
  const options = ['worker', '--device', 'cpu', '--store-allow', join(place.folder, 'data')];
  const worker = startQianmo(options, place);
  try {
    const output = endedWith(await startQianmo(words, place).ended, 0);
    return words[0] === 'train'
      ? `trained ${OUTER_STEPS} outer steps, digest ${digestIn(output)}`
      : 'ended with 0';
  } finally {
    worker.signal('SIGTERM');
    await worker.ended;
  }
}

async function runCommandLine(words: readonly string[], place: Place): Promise<string> {
  switch (words[0]) {
    case 'prepare':
    case 'train':
    case 'evaluate':
    case 'export':
    case 'refresh':
      return runToEnd(words, place);
    case 'worker':
      if (words.includes('gpu')) {
        endedWith(await startQianmo(words, place).ended, 3);
        return 'ended with 3, since there is no GPU';
      }
      return startAndStop(words, /takes jobs from/, place);
    case 'serve':
      return startAndStop(words, /rankings: /, place);
    default:
      return startAndStop(words, /https?:\/\//, place);
  }
}

export async function checkCommandLines({ check }: Checks, place: Place): Promise<void> {
  const order = ['prepare', 'train', 'evaluate', 'export', 'refresh', 'worker', 'serve'];
  const placeOf = (verb = ''): number =>
    order.includes(verb) ? order.indexOf(verb) : order.length;
  const commands = distinctCommands(place.folder).sort(
    ([one], [other]) => placeOf(one[0]) - placeOf(other[0]),
  );
  for (const [words, places] of commands) {
    const shown = words.join(' ').replaceAll(place.folder, '');
    await check(`qianmo ${shown} (${places.length} places)`, () => runCommandLine(words, place));
  }
}
