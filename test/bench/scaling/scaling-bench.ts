/**
 * Scaling on one machine: tasks per second in process, with one worker, with two, in two processes without a queue,
 * and of two independent runs that share nothing, each pinned to one core. Every round runs all of them, one
 * after the other. Writes `infra/results/scaling.json` and `.md`.
 *
 *   npm run bench -- scaling --rounds 3 --configs heavy,demo
 *   npm run bench -- scaling --length 4 --ways '2 workers;2 workers, stale;2 independent'
 */

import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { median } from '../../../shared/base/arrays.js';
import {
  benchHeader,
  circumstances,
  grouped,
  markdownTable,
  writeResult,
  type BenchHeader,
} from '../bench-header.js';
import {
  DRAIN_EVERY_OUTER_STEPS,
  prepareConfigs,
  qianmoArgs,
  SCALING_CONFIGS,
  type ScalingConfig,
} from './scaling-configs.js';
import { steadyTasksPerSecond, WARM_UP_SHARE } from './steady-rate.js';
import { counted } from '../../../shared/names/counted.js';
import { benchOptions } from '../bench-options.js';
import {
  amount,
  listOf,
  oneOf,
  outputOption,
  roundsOption,
  rowsAsWritten,
} from '../option-values.js';
import { scratchFolder } from '../scratch-folder.js';

const WAYS = [
  ...(['in process', '1 worker', '2 workers', '1 worker, stale', '2 workers, stale'] as const),
  ...(['2 in process', '2 in process, stale', '2 independent'] as const),
] as const;
type Way = (typeof WAYS)[number];

const RATIOS: readonly (readonly [Way, Way])[] = [
  ['1 worker', 'in process'],
  ['2 workers', 'in process'],
  ['2 workers', '2 independent'],
  ['2 workers, stale', '2 independent'],
  ['2 in process', 'in process'],
  ['2 in process', '2 independent'],
  ['2 in process, stale', '2 independent'],
];
const TASKS_PER_OUTER_STEP: Readonly<Record<ScalingConfig, number>> = { heavy: 256, demo: 64 };

const options = benchOptions(import.meta.url, {
  rounds: roundsOption('3'),
  rows: { value: rowsAsWritten, default: '1M', about: 'rows of the log' },
  configs: {
    value: listOf(oneOf(SCALING_CONFIGS)),
    default: SCALING_CONFIGS.join(','),
    about: 'configs to measure, with commas between them',
  },
  ways: {
    value: listOf(oneOf(WAYS), ';'),
    default: WAYS.join(';'),
    about: 'ways to be measured, with semicolons between them',
  },
  length: {
    value: amount(),
    default: '1',
    about: 'multiplies the outer steps of each run, which take from ten seconds to half a minute',
  },
  output: outputOption,
});

const { length, rounds, configs, ways } = options;
/** Whole numbers of drains, so that all ways take as many outer steps. */
const outerStepsOf = (count: number): number =>
  Math.max(1, Math.round((count * length) / DRAIN_EVERY_OUTER_STEPS)) * DRAIN_EVERY_OUTER_STEPS;
const outerSteps = {
  heavy: outerStepsOf(150),
  demo: outerStepsOf(700),
};

const folder = scratchFolder('scaling');

/** Trains to the end, and returns the tasks per second. `core` pins all processes of the run. */
async function trained(
  config: ScalingConfig,
  suffix: string,
  words: string[],
  core?: number,
): Promise<number> {
  const run = `${config}${suffix}`;
  const command = [process.execPath, ...qianmoArgs('train', `${run}.yaml`, '--fresh', ...words)];
  const pinned = core === undefined ? command : ['taskset', '-c', String(core), ...command];
  const [program = '', ...args] = pinned;
  const child = spawn(program, args, { cwd: folder, stdio: 'ignore' });
  const exitCode = await new Promise<number | null>((settle) => child.on('exit', settle));
  if (exitCode !== 0) throw new Error(`train ${run} ${words.join(' ')} ended with ${exitCode}`);
  const log = join(folder, 'runs', run, 'events/events-000001.ndjson');
  return steadyTasksPerSecond(log, TASKS_PER_OUTER_STEP[config]);
}

const HOW: Readonly<Record<Exclude<Way, '2 independent'>, readonly [string, string[]]>> = {
  'in process': ['', ['--processes', '1']],
  '1 worker': ['', ['--workers', '1']],
  '2 workers': ['', ['--workers', '2']],
  '1 worker, stale': ['-stale', ['--workers', '1']],
  '2 workers, stale': ['-stale', ['--workers', '2']],
  '2 in process': ['', ['--processes', '2']],
  '2 in process, stale': ['-stale', ['--processes', '2']],
};

async function measured(config: ScalingConfig, way: Way): Promise<number> {
  rmSync(join(folder, 'runs'), { recursive: true, force: true });
  if (way !== '2 independent') return trained(config, ...HOW[way]);
  const twins = [0, 1].map((core) => trained(config, `-${core}`, ['--processes', '1'], core));
  return (await Promise.all(twins)).reduce((sum, rate) => sum + rate, 0);
}

interface Result {
  readonly config: string;
  readonly tasksPerSecond: Readonly<Record<Way, number[]>>;
}

const header = benchHeader();
prepareConfigs(folder, configs, { rows: options.rows, outerSteps });
const results = configs.map((config) => {
  const noRates = WAYS.map((way) => [way, new Array<number>()] as const);
  // Every way has an entry.
  return { config, tasksPerSecond: Object.fromEntries(noRates) as Record<Way, number[]> };
});
for (let round = 1; round <= rounds; round += 1)
  for (const { config, tasksPerSecond } of results)
    for (const way of ways) {
      const rate = await measured(config, way);
      tasksPerSecond[way].push(rate);
      console.log(`${config}, ${way}, round ${round}: ${rate.toFixed(0)}`);
    }
const record = { ...header, rounds, rows: options.rows, results };
writeResult(options.output, 'scaling', record, scalingPage(results, header));

function scalingPage(results: readonly Result[], header: BenchHeader): string {
  const rows = results.map(({ config, tasksPerSecond }) => {
    const rateOf = (way: Way): number | null =>
      tasksPerSecond[way].length === 0 ? null : median(tasksPerSecond[way]);
    const share = ([way, of]: readonly [Way, Way]): string => {
      const [rate, whole] = [rateOf(way), rateOf(of)];
      return rate === null || whole === null ? '' : (rate / whole).toFixed(2);
    };
    const rates = WAYS.map((way) => {
      const rate = rateOf(way);
      return rate === null ? '' : grouped(Math.round(rate));
    });
    return [config, ...rates, ...RATIOS.map(share)];
  });
  const lengths = configs.map((config) => `${config} ${outerSteps[config]}`).join(', ');
  const ratios = RATIOS.map(([way, of]) => `${way} / ${of}`);
  return [
    '# Scaling on one machine',
    '',
    `${circumstances(header)} Tasks per second, the median of ${counted(rounds, 'interleaved round')}, after the first ${WARM_UP_SHARE * 100} % of`,
    `the outer steps: ${lengths}. \`heavy\` is a larger infra/examples/synthetic.yaml (test/bench/scaling/scaling-configs.ts), \`demo\` is`,
    `infra/examples/movielens.yaml. Stale runs drain every ${DRAIN_EVERY_OUTER_STEPS} outer steps. Workers take their jobs from Redis; \`2 in process\` is \`train --processes 2\`.`,
    '',
    ...markdownTable(['config', ...WAYS, ...ratios], rows),
    '',
  ].join('\n');
}
