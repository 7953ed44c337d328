/**
 * Scaling over the real queue with more workers than this machine has cores: coordinator, Redis, work loops and bytes
 * are the real ones, and workers sleep for as long as their tasks would take. In strong scaling the heavy step
 * stays the same. In weak scaling a W2 step has 128 tasks for each worker. Writes
 * `infra/results/queue-scaling.json` and `.md`.
 *
 *   npm run bench -- scaling queue --cases strong,weak-1s --workers 1,16
 */

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { startEmbeddedRedis } from '#bootstrap/embedded-redis.mjs';
import { median } from '../../../shared/base/arrays.js';
import { counted } from '../../../shared/names/counted.js';
import { benchHeader, circumstances, markdownTable, writeResult } from '../bench-header.js';
import { benchOptions } from '../bench-options.js';
import { listOf, oneOf, outputOption, roundsOption, wholeNumber } from '../option-values.js';
import { prepareConfigs, qianmoArgs } from './scaling-configs.js';
import { steadyTasksPerSecond } from './steady-rate.js';
import { FULL_W2, w2Run, writeW2Log } from './w2-run.js';

const NO_COMPUTE_WORKER = fileURLToPath(
  new URL('../distributed-peers/no-compute-worker.js', import.meta.url),
);
const HEAVY_TASKS_PER_STEP = 256;
const WEAK_TASKS_PER_WORKER = 128;
/** Workers share this many processes. */
const WORKER_PROCESSES_MAX = 4;

const CASES = {
  strong: { msPerTask: 1, steps: 60 },
  'weak-1s': { msPerTask: 1_000 / WEAK_TASKS_PER_WORKER, steps: 14 },
  'weak-10s': { msPerTask: 10_000 / WEAK_TASKS_PER_WORKER, steps: 6 },
} as const;
type Case = keyof typeof CASES;

const options = benchOptions(import.meta.url, {
  cases: {
    value: listOf(oneOf(Object.keys(CASES) as Case[])),
    default: Object.keys(CASES).join(','),
    about: 'cases to measure, with commas between them',
  },
  workers: {
    value: listOf(wholeNumber()),
    default: '1,2,4,8,16,64',
    about: 'numbers of workers, with commas between them; weak scaling takes 1, 16 and 64 of them',
  },
  rounds: roundsOption('1'),
  output: outputOption,
});

const workersOf = (name: Case): number[] =>
  options.workers.filter((count) =>
    name === 'strong' ? count <= 16 : [1, 16, 64].includes(count),
  );
const tasksPerStepOf = (name: Case, workerCount: number): number =>
  name === 'strong' ? HEAVY_TASKS_PER_STEP : WEAK_TASKS_PER_WORKER * workerCount;

/** Tasks per second in the second half of a run. */
async function rateOf(folder: string, name: Case, workerCount: number): Promise<number> {
  const tasksPerOuterStep = tasksPerStepOf(name, workerCount);
  const { msPerTask, steps } = CASES[name];
  const size = { ...FULL_W2, taskCount: weakTaskCountMax, tasksPerOuterStep };
  if (name !== 'strong') {
    const run = { ...w2Run('w2.csv', 'w2-store', steps, size), run: 'weak', output: 'runs/weak' };
    writeFileSync(join(folder, 'weak.yaml'), stringify(run));
  }
  const run = name === 'strong' ? 'heavy' : 'weak';
  const dataDir = mkdtempSync(join(tmpdir(), 'qianmo-scaling-'));
  const redis = await startEmbeddedRedis({ dataDir, password: '' });
  const workers: ChildProcess[] = [];
  try {
    const processCount = Math.min(workerCount, WORKER_PROCESSES_MAX);
    for (let place = 0; place < processCount; place += 1) {
      const share = Math.floor((workerCount + place) / processCount);
      const words = [redis.url, `p${place}`, String(share), String(msPerTask), 'sleeps'];
      const worker = startNode(folder, [NO_COMPUTE_WORKER, ...words]);
      workers.push(worker);
      await awaitWorkers(worker, share);
    }
    const words = ['train', `${run}.yaml`, '--fresh', '--redis', redis.url];
    const coordinator = startNode(folder, qianmoArgs(...words));
    coordinator.stdout?.resume();
    const [exitCode] = (await once(coordinator, 'close')) as [number | null];
    if (exitCode !== 0) throw new Error(`qianmo train ended with ${exitCode}`);
    const events = join(folder, 'runs', run, 'events/events-000001.ndjson');
    return steadyTasksPerSecond(events, tasksPerOuterStep);
  } finally {
    for (const worker of workers) {
      worker.kill('SIGTERM');
      if (worker.exitCode === null) await once(worker, 'close');
    }
    await redis.stop();
    rmSync(dataDir, { recursive: true, force: true });
  }
}

function startNode(folder: string, args: readonly string[]): ChildProcess {
  return spawn(process.execPath, args, { cwd: folder, stdio: ['ignore', 'pipe', 'ignore'] });
}

async function awaitWorkers(worker: ChildProcess, count: number): Promise<void> {
  if (worker.stdout === null) throw new Error('a worker prints its events');
  let readyCount = 0;
  for await (const line of createInterface({ input: worker.stdout })) {
    if (line.includes('"worker-ready"')) readyCount += 1;
    if (readyCount === count) {
      worker.stdout.resume();
      return;
    }
  }
  throw new Error('a worker ended before it was ready');
}

const weakTaskCountMax = WEAK_TASKS_PER_WORKER * Math.max(...options.workers);
const folder = mkdtempSync(join(tmpdir(), 'qianmo-workers-'));
try {
  const header = benchHeader();
  const outerSteps = { heavy: CASES.strong.steps, demo: 1 };
  if (options.cases.includes('strong'))
    prepareConfigs(folder, ['heavy'], { rows: '1M', outerSteps });
  if (options.cases.some((name) => name !== 'strong')) {
    const size = { ...FULL_W2, taskCount: weakTaskCountMax };
    writeW2Log(join(folder, 'w2.csv'), size);
    writeFileSync(join(folder, 'w2.yaml'), stringify(w2Run('w2.csv', 'w2-store', 1, size)));
    const prepared = startNode(folder, qianmoArgs('prepare', 'w2.yaml'));
    prepared.stdout?.resume();
    await once(prepared, 'close');
  }
  const measured = options.cases.flatMap((name) =>
    workersOf(name).map((workerCount) => ({ name, workerCount, rates: new Array<number>() })),
  );
  for (let round = 1; round <= options.rounds; round += 1)
    for (const { name, workerCount, rates } of measured) {
      const rate = await rateOf(folder, name, workerCount);
      rates.push(rate);
      console.log(`${name}, ${counted(workerCount, 'worker')}: ${rate.toFixed(0)} tasks/s`);
    }
  const record = { ...header, rounds: options.rounds, measured };
  writeResult(options.output, 'queue-scaling', record, pageOf(header, measured));
} finally {
  rmSync(folder, { recursive: true, force: true });
}

function pageOf(
  header: ReturnType<typeof benchHeader>,
  measured: readonly { name: Case; workerCount: number; rates: readonly number[] }[],
): string {
  const rows = measured.map(({ name, workerCount, rates }) => {
    const rate = median(rates);
    const first = measured.find((each) => each.name === name);
    const perWorker = CASES[name].msPerTask * (tasksPerStepOf(name, workerCount) / workerCount);
    const stepMs = (tasksPerStepOf(name, workerCount) * 1_000) / rate;
    return [
      ...[name, workerCount, rate.toFixed(0), stepMs.toFixed(0), (stepMs - perWorker).toFixed(0)],
      first === undefined ? '' : (rate / median(first.rates)).toFixed(2),
    ];
  });
  return [
    '# Scaling over the queue',
    '',
    `${circumstances(header)} Medians of ${counted(options.rounds, 'round')}. Coordinator, Redis, work loops and bytes are the real ones. Workers sleep in place of computing`,
    'and share the cores of this machine with everything else.',
    '',
    ...markdownTable(
      ['case', 'workers', 'tasks/s', 'step, ms', 'of it not computing, ms', 'times the first'],
      rows,
    ),
    '',
    `\`strong\`: the heavy step of \`scaling\`, ${HEAVY_TASKS_PER_STEP} tasks of 1 ms. \`weak-1s\` and \`weak-10s\`: W2 with`,
    `${WEAK_TASKS_PER_WORKER} tasks a worker and step, which take a worker 1 s or 10 s.`,
    '',
  ].join('\n');
}
