/**
 * Scaling on one machine: tasks per second in process, with one worker, with two, in two processes without a queue,
 * and of two independent runs that share nothing, each pinned to one core. Every round runs all of them, one
 * after the other, in each checkout. Writes `infra/results/scaling.json` and `.md`.
 *
 *   npm run bench -- scaling --rounds 3 --configs heavy,demo
 *   npm run bench -- scaling --length 4 --ways '2 workers;2 workers, stale;2 independent'
 *   npm run bench -- scaling --base ../other-checkout
 */

import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../../../infra/library/package-root.js';
import { median } from '../../../shared/base/arrays.js';
import { benchHeader, markdownTable } from '../bench-header.js';
import {
  configFileOf,
  DRAIN_EVERY_OUTER_STEPS,
  openRooms,
  prepareRoom,
  qianmoArgs,
  SCALING_CONFIGS,
  type ScalingConfig,
  type ScalingRoom,
} from './scaling-configs.js';
import { steadyTasksPerSecond, WARM_UP_SHARE } from './steady-rate.js';
import { counted } from '../../../shared/names/counted.js';
import { benchOptions } from '../options/bench-options.js';
import {
  amount,
  listOf,
  oneOf,
  rowsAsWritten,
  text,
  wholeNumber,
} from '../options/option-values.js';

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
const TWO_IN_PROCESS = ['--processes', '2'];

const TASKS_PER_OUTER_STEP: Readonly<Record<ScalingConfig, number>> = {
  heavy: 256,
  demo: 64,
  synthetic: 128,
  w2: 256,
};

const options = benchOptions(import.meta.url, {
  rounds: {
    value: wholeNumber(),
    default: '3',
    about: 'how often everything is measured, in turns',
  },
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
  base: {
    value: text,
    about: 'another checkout, compiled there, which is measured in every round as well',
  },
  output: {
    value: text,
    default: new URL('infra/results/', packageRoot).pathname,
    about: 'folder of the record and its page',
  },
});

const { length, rounds, configs, ways } = options;
/** Whole numbers of drains, so that all ways take as many outer steps. */
const outerStepsOf = (count: number): number =>
  Math.max(1, Math.round((count * length) / DRAIN_EVERY_OUTER_STEPS)) * DRAIN_EVERY_OUTER_STEPS;
const outerSteps = {
  heavy: outerStepsOf(150),
  demo: outerStepsOf(700),
  synthetic: outerStepsOf(250),
  w2: outerStepsOf(200),
};

/** One run to its end. `core` pins all its processes. */
async function train(room: ScalingRoom, file: string, words: string[], core?: number) {
  const command = [process.execPath, ...qianmoArgs(room, ['train', file, '--fresh', ...words])];
  const pinned = core === undefined ? command : ['taskset', '-c', String(core), ...command];
  const [program, ...args] = pinned;
  const child = spawn(program ?? '', args, { cwd: room.folder, stdio: 'ignore' });
  const exitCode = await new Promise<number | null>((settle) => child.on('exit', settle));
  if (exitCode !== 0) throw new Error(`train ${file} ${words.join(' ')} ended with ${exitCode}`);
}

function rateOf(room: ScalingRoom, config: ScalingConfig, run: string): number {
  const log = join(room.folder, 'runs', run, 'events/events-000001.ndjson');
  return steadyTasksPerSecond(log, TASKS_PER_OUTER_STEP[config]);
}

async function measured(room: ScalingRoom, config: ScalingConfig, way: Way): Promise<number> {
  const file = configFileOf(config);
  rmSync(join(room.folder, 'runs'), { recursive: true, force: true });
  switch (way) {
    case 'in process':
      await train(room, file, ['--processes', '1']);
      return rateOf(room, config, config);
    case '1 worker':
      await train(room, file, ['--workers', '1']);
      return rateOf(room, config, config);
    case '2 workers':
      await train(room, file, ['--workers', '2']);
      return rateOf(room, config, config);
    case '1 worker, stale':
      await train(room, configFileOf(`${config}-stale`), ['--workers', '1']);
      return rateOf(room, config, `${config}-stale`);
    case '2 workers, stale':
      await train(room, configFileOf(`${config}-stale`), ['--workers', '2']);
      return rateOf(room, config, `${config}-stale`);
    case '2 in process':
      await train(room, file, TWO_IN_PROCESS);
      return rateOf(room, config, config);
    case '2 in process, stale':
      await train(room, configFileOf(`${config}-stale`), TWO_IN_PROCESS);
      return rateOf(room, config, `${config}-stale`);
    case '2 independent': {
      const twins = [0, 1].map((core) => twin(room, config, core));
      return (await Promise.all(twins)).reduce((sum, rate) => sum + rate, 0);
    }
  }
}

/** A run of its own with the same config and store, on one core. */
async function twin(room: ScalingRoom, config: ScalingConfig, core: number): Promise<number> {
  const name = `${config}-${core}`;
  await train(room, configFileOf(name), ['--processes', '1'], core);
  return rateOf(room, config, name);
}

const scratch = mkdtempSync(join(tmpdir(), 'qianmo-scaling-'));
try {
  const rooms = openRooms(scratch, options.base).map((room) => {
    prepareRoom(room, configs, { rows: options.rows, outerSteps });
    return { room, header: benchHeader(room.checkout) };
  });
  const rates = new Map<string, number[]>();
  const keyOf = (index: number, config: string, way: Way): string => `${index}/${config}/${way}`;
  for (let round = 1; round <= rounds; round += 1)
    for (const config of configs)
      for (const way of ways)
        for (const [index, { room, header }] of rooms.entries()) {
          // An earlier checkout may not know staleness.
          if (way.endsWith('stale') && index < rooms.length - 1) continue;
          const rate = await measured(room, config, way);
          const key = keyOf(index, config, way);
          rates.set(key, [...(rates.get(key) ?? []), rate]);
          console.log(`${header.commit} ${config}, ${way}, round ${round}: ${rate.toFixed(0)}`);
        }
  const results = rooms.flatMap(({ header }, index) =>
    configs.map((config) => ({
      ...{ commit: header.commit, config },
      tasksPerSecond: Object.fromEntries(
        WAYS.map((way) => [way, rates.get(keyOf(index, config, way)) ?? []]),
      ),
    })),
  );
  const page = scalingPage(results, rooms.at(-1)?.header ?? benchHeader());
  mkdirSync(options.output, { recursive: true });
  const header = rooms.at(-1)?.header;
  writeFileSync(
    join(options.output, 'scaling.json'),
    `${JSON.stringify({ ...header, rounds, rows: options.rows, results }, null, 1)}\n`,
  );
  writeFileSync(join(options.output, 'scaling.md'), page);
  console.log(page);
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

function scalingPage(
  results: readonly {
    readonly commit: string;
    readonly config: string;
    readonly tasksPerSecond: Readonly<Record<string, readonly number[]>>;
  }[],
  header: ReturnType<typeof benchHeader>,
): string {
  const rows = results.map(({ commit, config, tasksPerSecond }) => {
    const rateOf = (way: Way): number | null => {
      const rates = tasksPerSecond[way] ?? [];
      return rates.length === 0 ? null : median(rates);
    };
    const share = ([way, of]: readonly [Way, Way]): string => {
      const [rate, whole] = [rateOf(way), rateOf(of)];
      return rate === null || whole === null ? '' : (rate / whole).toFixed(2);
    };
    const rates = WAYS.map((way) => {
      const rate = rateOf(way);
      return rate === null ? '' : Math.round(rate).toLocaleString('en');
    });
    return [config, commit, ...rates, ...RATIOS.map(share)];
  });
  const lengths = configs.map((config) => `${config} ${outerSteps[config]}`).join(', ');
  const ratios = RATIOS.map(([way, of]) => `${way} / ${of}`);
  return [
    '# Scaling on one machine',
    '',
    `\`npm run bench -- scaling\`, commit ${header.commit}, ${header.date}, ${header.machine}, load ${header.loadBefore} before.`,
    `Tasks per second in the steady state, the median of ${counted(rounds, 'interleaved round')}. A run has so many outer steps: ${lengths}.`,
    `Rates are those of its steps after the first ${WARM_UP_SHARE * 100} %.`,
    '',
    ...markdownTable(['config', 'commit', ...WAYS, ...ratios], rows),
    '',
    `Stale runs have \`training.staleness: {outerSteps: 1, drainEveryOuterSteps: ${DRAIN_EVERY_OUTER_STEPS}}\`.`,
    '`heavy` is infra/examples/synthetic.yaml with hiddenWidths [256, 128], personal [bias, adgroupEmbedding,',
    'layer1, output], innerSteps 5 and tasksPerOuterStep 256; `demo` is',
    'infra/examples/movielens.yaml; `synthetic` is infra/examples/synthetic.yaml; `w2` has the jobs of workload W2. Two independent runs share',
    'nothing, and each has one core for its coordinator and its compute process. Workers take their jobs from Redis; `2 in process` is',
    '`train --processes 2`, whose coordinator gives jobs to two child processes itself.',
    '',
  ].join('\n');
}
