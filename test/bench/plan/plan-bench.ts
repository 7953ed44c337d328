/**
 * Compares what `qianmo plan` predicts for this machine with runs of one and two workers. Every round plans
 * each config and then trains it, because the speed of a shared machine changes. Writes
 * `infra/results/plan.json`, `.md` and `.svg`.
 *
 *   npm run bench:plan -- --rounds 3 --configs heavy,demo
 */

import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { packageRoot } from '../../../infra/library/package-root.js';
import { benchHeader } from '../bench-header.js';
import {
  configFileOf,
  prepareRoom,
  qianmoArgs,
  SCALING_CONFIGS,
  type ScalingConfig,
} from '../scaling/scaling-configs.js';
import { steadyTasksPerSecond } from '../scaling/steady-rate.js';
import { planPage, type PlanResults } from './plan-page.js';
import { benchOptions } from '../options/bench-options.js';
import {
  amount,
  listOf,
  oneOf,
  rowsAsWritten,
  text,
  wholeNumber,
} from '../options/option-values.js';

const WORKER_COUNTS = [1, 2] as const;

const options = benchOptions(import.meta.url, {
  rounds: {
    value: wholeNumber(),
    default: '3',
    about: 'how often everything is measured, in turns',
  },
  rows: { value: rowsAsWritten, default: '1M', about: 'rows of the log' },
  configs: {
    value: listOf(oneOf(SCALING_CONFIGS)),
    default: 'heavy,demo',
    about: 'configs to measure, with commas between them',
  },
  length: { value: amount(), default: '1', about: 'multiplies the outer steps of each run' },
  output: {
    value: text,
    default: new URL('infra/results/', packageRoot).pathname,
    about: 'folder of the record and its page',
  },
});
const { rounds, length, configs } = options;
const outerSteps = {
  heavy: Math.round(80 * length),
  demo: Math.round(400 * length),
  synthetic: Math.round(150 * length),
  w2: Math.round(150 * length),
};
const cores = availableParallelism();

const PlanSchema = z.object({
  byWorkers: z.array(
    z.object({ workerCount: z.number(), asConfigured: z.object({ perSecond: z.number() }) }),
  ),
});
const TrainingSchema = z.object({ training: z.object({ tasksPerOuterStep: z.number() }) });

const folder = mkdtempSync(join(tmpdir(), 'qianmo-plan-'));
const room = { checkout: packageRoot.pathname, folder };

function qianmo(...words: string[]): string {
  return execFileSync(process.execPath, qianmoArgs(room, words), {
    cwd: folder,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
}

/** Tasks per second by workers. The costs are measured once and used for both plans. */
function plannedRates(config: ScalingConfig): {
  readonly predicted: ReadonlyMap<number, number>;
  readonly unshared: ReadonlyMap<number, number>;
} {
  const [file, kept, chart] = [configFileOf(config), `${config}-plan.json`, `${config}.svg`];
  writeFileSync(
    join(folder, kept),
    qianmo('plan', file, '--workers', '2', '--format', 'json', '--chart', chart),
  );
  const unshared = ratesOf(readFileSync(join(folder, kept), 'utf8'));
  const from = ['--from', kept, '--cores', String(cores), '--format', 'json'];
  return { unshared, predicted: ratesOf(qianmo('plan', file, '--workers', '2', ...from)) };
}

function ratesOf(text: string): ReadonlyMap<number, number> {
  const { byWorkers } = PlanSchema.parse(JSON.parse(text));
  return new Map(
    byWorkers.map(({ workerCount, asConfigured }) => [workerCount, asConfigured.perSecond]),
  );
}

function trainedRate(config: ScalingConfig, workers: number): number {
  rmSync(join(folder, 'runs'), { recursive: true, force: true });
  qianmo('train', configFileOf(config), '--fresh', '--workers', String(workers));
  const { training } = TrainingSchema.parse(
    parse(readFileSync(join(folder, configFileOf(config)), 'utf8')),
  );
  const log = join(folder, 'runs', config, 'events/events-000001.ndjson');
  return steadyTasksPerSecond(log, training.tasksPerOuterStep);
}

try {
  const header = benchHeader(packageRoot.pathname);
  prepareRoom(room, configs, { rows: options.rows, outerSteps });
  const measured = configs.map((config) => ({
    config,
    byWorkers: WORKER_COUNTS.map((workers) => ({
      ...{ workers, predicted: new Array<number>(), unshared: new Array<number>() },
      measured: new Array<number>(),
    })),
  }));
  for (let round = 1; round <= rounds; round += 1)
    for (const { config, byWorkers } of measured) {
      const { predicted, unshared } = plannedRates(config);
      for (const each of byWorkers) {
        each.predicted.push(predicted.get(each.workers) ?? NaN);
        each.unshared.push(unshared.get(each.workers) ?? NaN);
        each.measured.push(trainedRate(config, each.workers));
        console.log(`${config}, round ${round}: ${JSON.stringify(each)}`);
      }
    }
  const loadAfter = Math.round((loadavg()[0] ?? 0) * 10) / 10;
  const results: PlanResults = { ...header, rounds, loadAfter, cores, configs: measured };
  mkdirSync(options.output, { recursive: true });
  writeFileSync(join(options.output, 'plan.json'), `${JSON.stringify(results, null, 1)}\n`);
  writeFileSync(join(options.output, 'plan.md'), planPage(results));
  copyFileSync(join(folder, `${configs[0] ?? ''}.svg`), join(options.output, 'plan.svg'));
  console.log(planPage(results));
} finally {
  rmSync(folder, { recursive: true, force: true });
}
