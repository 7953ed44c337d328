/**
 * The cost of a run's record and of trackers that hang: the same training with and without them, one after the other, in
 * processor time of the command and its compute process, and in wall time. Writes `infra/results/record.md`.
 */

import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { tmpdir, loadavg } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { median } from '../../../shared/base/arrays.js';
import { packageRoot } from '../../../infra/library/package-root.js';
import { systemClock } from '../../../shared/base/clock.js';
import { parseEventLine } from '../../../shared/events/event-lines.js';
import { createEventLog } from '../../../shared/events/event-log.js';
import { folderLogPlace } from '../../../shared/events/folder-log-place.js';
import { benchHeader, markdownTable } from '../bench-header.js';
import { MOVIELENS_DATA } from '../operation/movielens-data.js';
import { benchOptions } from '../options/bench-options.js';
import { wholeNumber } from '../options/option-values.js';

const options = benchOptions(import.meta.url, {
  rounds: { value: wholeNumber(), default: '4', about: 'how often each way is trained, in turns' },
});
const OUTER_STEPS = 300;
const REPLAYS = 20;
const MS_PER_TICK = 10;
const WAYS = ['no record', 'record', 'record and trackers that hang'] as const;
type Way = (typeof WAYS)[number];

interface Training {
  readonly cpuMs: number;
  readonly wallMs: number;
  readonly digest: string;
}

const header = benchHeader();
const folder = await mkdtemp(join(tmpdir(), 'qianmo-record-bench-'));
const hanging = await hangingServer();
const trainings = new Map<Way, Training[]>(WAYS.map((way) => [way, []]));
try {
  for (const way of WAYS) writeFileSync(configIn(way), config(way));
  await qianmo(['prepare', configIn('record')]);
  // The first start of a machine keeps things for later ones.
  await trained('record');
  for (let round = 0; round < options.rounds; round += 1)
    for (const way of round % 2 === 0 ? WAYS : [...WAYS].reverse()) {
      const training = await trained(way);
      trainings.get(way)?.push(training);
      console.log(`${way}: ${JSON.stringify(training)}`);
    }
  const digests = new Set([...trainings.values()].flat().map(({ digest }) => digest));
  if (digests.size !== 1) throw new Error(`digests differ: ${[...digests].join(', ')}`);
  const page = report(await replayedCpuMs());
  writeFileSync(new URL('infra/results/record.md', packageRoot), page);
  console.log(page);
} finally {
  hanging.close();
  await rm(folder, { recursive: true, force: true });
}

/** It accepts, reads, and never answers. */
async function hangingServer(): Promise<{ readonly url: string; close(): void }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket.resume().on('error', () => undefined));
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  // Only pipes have an address without a port.
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

/** Processor time of the children of this process that have ended, and of theirs. */
function childrenCpuMs(): number {
  const [, user = 0, system = 0] =
    /\) \S (?:\S+ ){12}(\d+) (\d+)/.exec(readFileSync('/proc/self/stat', 'utf8')) ?? [];
  return (Number(user) + Number(system)) * MS_PER_TICK;
}

function qianmo(words: readonly string[], flags: readonly string[] = []): Promise<string> {
  const main = new URL('dist/infra/cli/main.js', packageRoot).pathname;
  const child = spawn(process.execPath, [...flags, main, ...words], {
    cwd: folder,
    env: { ...process.env, QIANMO_WEBHOOK_URL: hanging.url },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  return new Promise((done, fail) => {
    child.once('close', (code) => {
      if (code === 0) done(output);
      else fail(new Error(`qianmo ${words.join(' ')} ended with ${code}`));
    });
  });
}

async function trained(way: Way): Promise<Training> {
  const hook = new URL('training-without-record.js', import.meta.url).href;
  const before = childrenCpuMs();
  const startMs = systemClock.monotonicMs();
  const output = await qianmo(
    ['train', configIn(way), '--processes', '1', '--fresh', '--format', 'json'],
    way === 'no record' ? ['--import', hook] : [],
  );
  const wallMs = Math.round(systemClock.monotonicMs() - startMs);
  const digest = /"digest":"([0-9a-f]+)"/.exec(output)?.[1] ?? '';
  return { cpuMs: childrenCpuMs() - before, wallMs, digest };
}

function nameOf(way: Way): string {
  return way.replaceAll(' ', '-');
}

function configIn(way: Way): string {
  return join(folder, `${nameOf(way)}.yaml`);
}

function config(way: Way): string {
  const tracking =
    way === 'record and trackers that hang'
      ? `tracking: { closingSeconds: 0, tensorboard: {}, mlflow: { url: ${hanging.url} }, webhook: {} }\n`
      : '';
  return `run: recorded
${MOVIELENS_DATA}model: { kind: deepfm, embeddingWidth: 8, hiddenWidths: [64, 32] }
method: { kind: fomaml, innerSteps: 3, innerRate: 0.1 }
training: { outerSteps: ${OUTER_STEPS}, tasksPerOuterStep: 32, leavesPerOuterStepMin: 2 }
${tracking}output: ${nameOf(way)}
`;
}

function recordByteCount(): number {
  const events = join(folder, nameOf('record'), 'events');
  return readdirSync(events).reduce((sum, name) => sum + statSync(join(events, name)).size, 0);
}

/**
 * Processor milliseconds of the record alone: its events again, through the same log into another folder, each step in
 * a turn of its own as in a training.
 */
async function replayedCpuMs(): Promise<number> {
  const logged = join(folder, nameOf('record'), 'events');
  const lines = readdirSync(logged)
    .sort()
    .flatMap((name) => readFileSync(join(logged, name), 'utf8').trim().split('\n'));
  const events = lines.map((line) => parseEventLine(line));
  const startedMs = events[0]?.epochMs ?? 0;
  const usedMs: number[] = [];
  for (let replay = 0; replay < REPLAYS; replay += 1) {
    let nowMs = startedMs;
    const log = createEventLog({
      place: folderLogPlace(join(folder, `replay-${replay}`)),
      clock: { ...systemClock, monotonicMs: () => nowMs },
      onFailure: ({ reason }) => {
        throw new Error(reason);
      },
    });
    const before = process.cpuUsage();
    for (const event of events) {
      nowMs = event.epochMs;
      log.sink(event);
      if (event.kind.startsWith('outer-step')) await setImmediate();
    }
    await log.close();
    const { user, system } = process.cpuUsage(before);
    usedMs.push((user + system) / 1_000);
  }
  return median(usedMs);
}

function report(replayedMs: number): string {
  const of = (way: Way, field: 'cpuMs' | 'wallMs'): number[] =>
    (trainings.get(way) ?? []).map((training) => training[field]);
  /** The ratio to the training without a record in the same round. */
  const ratios = (way: Way, field: 'cpuMs' | 'wallMs'): number[] => {
    const without = of('no record', field);
    return of(way, field).map((value, round) => value / (without[round] ?? NaN));
  };
  const percent = (ratio: number): string => `${((ratio - 1) * 100).toFixed(1)} %`;
  const range = (values: readonly number[]): string =>
    `${percent(median(values))} (${percent(Math.min(...values))} to ${percent(Math.max(...values))})`;
  const seconds = (values: readonly number[]): string => (median(values) / 1_000).toFixed(2);
  return [
    '# The cost of the run record and of trackers that hang',
    '',
    `Commit ${header.commit}, ${header.date}; ${header.machine}; load ${header.loadBefore} before and ${(loadavg()[0] ?? 0).toFixed(1)} after. ` +
      `\`npm run bench:record\``,
    '',
    `A DeepFM on the MovieLens example, ${OUTER_STEPS} outer steps of 32 adgroups with \`--processes 1\`, ${options.rounds} times each way, in turns. Processor ` +
      'time is that of the command and its compute process. *More* is a ratio to the training without a record in the same ' +
      'round: the median, and the range over rounds. The product has no switch for its record: a hook of Node put an empty log in its place. The trackers are ' +
      'event files of TensorBoard, and MLflow and a webhook at an address that accepts and never answers.',
    '',
    ...markdownTable(
      ['training', 'processor, s', 'more', 'wall, s', 'more'],
      WAYS.map((way) => [
        way,
        seconds(of(way, 'cpuMs')),
        way === 'no record' ? '' : range(ratios(way, 'cpuMs')),
        seconds(of(way, 'wallMs')),
        way === 'no record' ? '' : range(ratios(way, 'wallMs')),
      ]),
    ),
    '',
    `Alone, the record costs ${replayedMs.toFixed(0)} ms of processor time, ${((100 * replayedMs) / median(of('no record', 'cpuMs'))).toFixed(2)} % of a training without one: its ` +
      `events once more through the same code, the median of ${REPLAYS} times.`,
    '',
    `The record has ${(recordByteCount() / 1_024).toFixed(0)} KiB. The meta-parameters of all trainings have one digest.`,
    '',
  ].join('\n');
}
