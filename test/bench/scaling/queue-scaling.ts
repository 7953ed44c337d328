/**
 * Scaling over the real queue with more workers than this machine has cores: coordinator, Redis, work loops and bytes
 * are the real ones, and workers sleep for as long as their tasks would take. In strong scaling the heavy step
 * stays the same. In weak scaling a W2 step has 128 tasks for each worker. The limit is the same deliveries and bytes
 * between as many clients without our code. Writes `infra/results/queue-scaling.json` and `.md`.
 *
 *   npm run bench -- scaling queue --cases strong,weak-1s --workers 1,16
 */

import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { median } from '../../../shared/base/arrays.js';
import { counted } from '../../../shared/names/counted.js';
import { benchHeader, circumstances, markdownTable, writeResult } from '../bench-header.js';
import { benchOptions } from '../bench-options.js';
import { listOf, oneOf, outputOption, roundsOption, wholeNumber } from '../option-values.js';
import { onOwnRedis, readyWorkers, startedNode, stopAll } from './bench-processes.js';
import { bareStepMs, receivedByteCount } from './bare-exchange.js';
import { prepareConfigs, qianmoArgs } from './scaling-configs.js';
import { steadyDeliveryCount, steadyTasksPerSecond } from './steady-rate.js';
import { FULL_W2, w2Run, writeW2Log } from './w2-run.js';
import { scratchFolder } from '../scratch-folder.js';

const NO_COMPUTE_WORKER = fileURLToPath(
  new URL('../distributed-peers/no-compute-worker.js', import.meta.url),
);
const HEAVY_TASKS_PER_STEP = 256;
const WEAK_TASKS_PER_WORKER = 128;
/** Workers share this many processes. */
const WORKER_PROCESSES_MAX = 4;
const BARE_STEPS = 10;
const NO_JOINS = 512 * 1024 * 1024;
const MS_PER_SECOND = 1_000;

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

interface Measured {
  readonly name: Case;
  readonly workerCount: number;
  /** Tasks per second in the second half of a run, by round. */
  readonly rates: number[];
  /** Those of the bare exchange after it. */
  readonly limits: number[];
}

async function measure({ name, workerCount, rates, limits }: Measured): Promise<void> {
  const tasksPerOuterStep = tasksPerStepOf(name, workerCount);
  const { msPerTask, steps } = CASES[name];
  const size = { ...FULL_W2, taskCount: weakTaskCountMax, tasksPerOuterStep };
  if (name !== 'strong') {
    const { training, ...run } = w2Run('w2.csv', 'w2-store', steps, size);
    const weak = {
      ...{ ...run, run: 'weak', output: 'runs/weak' },
      // A leaf for each worker.
      training: { ...training, leavesPerOuterStepMin: Math.max(16, workerCount) },
      // Workers that do not compute know no ids, and sums can only be added on workers with theirs.
      queue: { joinedSumByteCountMin: NO_JOINS },
    };
    writeFileSync(join(folder, 'weak.yaml'), stringify(weak));
  }
  const run = name === 'strong' ? 'heavy' : 'weak';
  await onOwnRedis(async (redisUrl, workers) => {
    const processCount = Math.min(workerCount, WORKER_PROCESSES_MAX);
    const shares = Array.from({ length: processCount }, (_, place) =>
      Math.floor((workerCount + place) / processCount),
    );
    for (const [place, share] of shares.entries()) {
      const words = [redisUrl, `p${place}`, String(share), String(msPerTask), 'sleeps'];
      const worker = startedNode(folder, [NO_COMPUTE_WORKER, ...words]);
      workers.push(worker);
      await readyWorkers(worker, share);
    }
    const receivedBefore = await receivedByteCount(redisUrl);
    const words = ['train', `${run}.yaml`, '--fresh', '--redis', redisUrl];
    const coordinator = startedNode(folder, qianmoArgs(...words), { stderr: 'pipe' });
    coordinator.stdout?.resume();
    const said = coordinator.stderr === null ? Promise.resolve('') : text(coordinator.stderr);
    const [exitCode] = (await once(coordinator, 'close')) as [number | null];
    if (exitCode !== 0) throw new Error(`qianmo train ended with ${exitCode}: ${await said}`);
    const events = join(folder, 'runs', run, 'events/events-000001.ndjson');
    const stepByteCount = ((await receivedByteCount(redisUrl)) - receivedBefore) / steps;
    await stopAll(workers);
    const deliveryCount = steadyDeliveryCount(events);
    const bareStep = {
      deliveryCount,
      byteCount: Math.round(stepByteCount / 2 / deliveryCount),
      computeMs: (msPerTask * tasksPerOuterStep) / deliveryCount,
    };
    const limitMs = await bareStepMs(redisUrl, shares, bareStep, BARE_STEPS);
    rates.push(steadyTasksPerSecond(events, tasksPerOuterStep));
    limits.push((tasksPerOuterStep * MS_PER_SECOND) / limitMs);
    const told = [...rates.slice(-1), ...limits.slice(-1)].map((rate) => rate.toFixed(0));
    const { byteCount } = bareStep;
    console.log(
      `${name}, ${counted(workerCount, 'worker')}: ${told.join(' of ')} tasks/s, ${deliveryCount} x ${byteCount} B`,
    );
  });
}

const weakTaskCountMax = WEAK_TASKS_PER_WORKER * Math.max(...options.workers);
const folder = scratchFolder('workers');
const header = benchHeader();
const outerSteps = { heavy: CASES.strong.steps, demo: 1 };
if (options.cases.includes('strong')) prepareConfigs(folder, ['heavy'], { rows: '1M', outerSteps });
if (options.cases.some((name) => name !== 'strong')) {
  const size = { ...FULL_W2, taskCount: weakTaskCountMax };
  writeW2Log(join(folder, 'w2.csv'), size);
  writeFileSync(join(folder, 'w2.yaml'), stringify(w2Run('w2.csv', 'w2-store', 1, size)));
  const prepared = startedNode(folder, qianmoArgs('prepare', 'w2.yaml'));
  prepared.stdout?.resume();
  await once(prepared, 'close');
}
const measured = options.cases.flatMap((name) =>
  workersOf(name).map((workerCount): Measured => ({ name, workerCount, rates: [], limits: [] })),
);
for (let round = 1; round <= options.rounds; round += 1)
  for (const each of measured) await measure(each);
const record = { ...header, rounds: options.rounds, measured };
writeResult(options.output, 'scaling-queue', record, pageOf(header, measured), 'scaling');

function pageOf(header: ReturnType<typeof benchHeader>, measured: readonly Measured[]): string {
  const rows = measured.map(({ name, workerCount, rates, limits }) => {
    const [rate, limit] = [median(rates), median(limits)];
    const first = measured.find((each) => each.name === name);
    const perWorker = CASES[name].msPerTask * (tasksPerStepOf(name, workerCount) / workerCount);
    const stepMs = (tasksPerStepOf(name, workerCount) * MS_PER_SECOND) / rate;
    return [
      ...[name, workerCount, rate.toFixed(0), stepMs.toFixed(0), (stepMs - perWorker).toFixed(0)],
      first === undefined ? '' : (rate / median(first.rates)).toFixed(2),
      ...[limit.toFixed(0), (rate / limit).toFixed(2)],
      first === undefined ? '' : (limit / median(first.limits)).toFixed(2),
    ];
  });
  return [
    '# Scaling over the queue',
    '',
    `${circumstances(header)} Medians of ${counted(options.rounds, 'round')}. Coordinator, Redis, work loops and bytes are the real ones. Workers sleep in place of computing`,
    'and share the cores of this machine with everything else.',
    '',
    ...markdownTable(
      [
        ...['case', 'workers', 'tasks/s', 'step, ms', 'of it not computing, ms', 'times the first'],
        ...['limit, tasks/s', 'of the limit', 'limit, times the first'],
      ],
      rows,
    ),
    '',
    `\`strong\`: the heavy step of \`scaling\`, ${HEAVY_TASKS_PER_STEP} tasks of 1 ms. \`weak-1s\` and \`weak-10s\`: W2 with`,
    `${WEAK_TASKS_PER_WORKER} tasks a worker and step, which take a worker 1 s or 10 s. The limit: as many deliveries and bytes between as many`,
    'clients of the same library over the same Redis, without our code.',
    '',
  ].join('\n');
}
