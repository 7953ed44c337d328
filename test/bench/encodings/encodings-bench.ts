/**
 * Bytes and loss of runs whose tensors travel as float16 or int8, beside float32. Writes
 * `infra/results/encodings.json` and `.md`.
 *
 *   npm run bench:encodings
 */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../../../infra/library/package-root.js';
import { parseRunConfig } from '../../../shared/config/load-run-config.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import type { TensorEncoding } from '../../../shared/tensors/rounded-tensors.js';
import { openBenchContext, type BenchContext } from '../bench-context.js';
import { benchHeader } from '../bench-header.js';
import { configFileOf, openRooms, prepareRoom } from '../scaling/scaling-configs.js';
import { meanStep } from '../traffic-table.js';
import { meteredRun, type RunTraffic } from '../traffic-run.js';
import { encodingsPage, type EncodedRun } from './encodings-page.js';
import { benchOptions } from '../options/bench-options.js';
import { rowsAsWritten, wholeNumber } from '../options/option-values.js';

const RESULTS = new URL('infra/results/', packageRoot).pathname;
const CONFIGS = ['heavy', 'demo'] as const;
const LOSS_SHARE = 0.25;

type Ways = readonly [parameters: TensorEncoding, gradients: TensorEncoding];
const FLOAT32: Ways = ['float32', 'float32'];
const WAYS: readonly Ways[] = [
  FLOAT32,
  ['float16', 'float16'],
  ['float32', 'int8'],
  ['int8', 'float32'],
  ['int8', 'int8'],
];

const options = benchOptions(import.meta.url, {
  rows: { value: rowsAsWritten, default: '300K', about: 'rows of the log' },
  'heavy-outer-steps': {
    value: wholeNumber(),
    default: '60',
    about: 'outer steps of the heavy run',
  },
  'demo-outer-steps': { value: wholeNumber(), default: '300', about: 'outer steps of the demo' },
});

const outerStepsOf: Record<(typeof CONFIGS)[number], number> = {
  heavy: options['heavy-outer-steps'],
  demo: options['demo-outer-steps'],
};

function configOf(name: string, [parameters, gradients]: Ways): RunConfig {
  const config = parseRunConfig(readFileSync(configFileOf(name), 'utf8'), configFileOf(name));
  const encodings = { parameters, gradients };
  return { ...config, training: { ...config.training, encodings } };
}

/** The losses of the last outer steps. */
function lastLosses({ queryLosses }: RunTraffic): readonly number[] {
  return queryLosses.slice(-Math.round(queryLosses.length * LOSS_SHARE));
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function encodedRun(
  config: string,
  [parameters, gradients]: Ways,
  run: RunTraffic,
  plain: RunTraffic,
): EncodedRun {
  const step = meanStep(run);
  const plainLosses = lastLosses(plain);
  const differences = lastLosses(run).map((loss, index) => loss - (plainLosses[index] ?? NaN));
  const mean = meanOf(differences);
  const variance = meanOf(differences.map((difference) => (difference - mean) ** 2));
  return {
    ...{ config, parameters, gradients, outerSteps: run.queryLosses.length },
    denseByteCount: step.denseByteCount,
    rowPackByteCount: step.rowPackByteCount,
    outputByteCount: step.outputByteCount,
    redisByteCount: step.redisInputByteCount + step.redisOutputByteCount,
    loss: meanOf(lastLosses(run)),
    minusFloat32:
      run === plain ? null : { mean, error: Math.sqrt(variance / (differences.length - 1)) },
    seconds: run.seconds,
  };
}

async function runsOf(config: (typeof CONFIGS)[number], context: BenchContext) {
  const runs: EncodedRun[] = [];
  let plain: RunTraffic | null = null;
  for (const ways of WAYS) {
    const run = await meteredRun(`${config} ${ways.join(' ')}`, configOf(config, ways), context);
    plain ??= run;
    runs.push(encodedRun(config, ways, run, plain));
  }
  return runs;
}

const header = benchHeader();
const context = openBenchContext();
const scratch = mkdtempSync(join(tmpdir(), 'qianmo-encodings-bench-'));
try {
  for (const room of openRooms(scratch, undefined)) {
    const outerSteps = { ...outerStepsOf, synthetic: 1, w2: 1 };
    prepareRoom(room, CONFIGS, { rows: options.rows, outerSteps });
    // Paths in the configs are relative to the room.
    process.chdir(room.folder);
  }
  const runs: EncodedRun[] = [];
  for (const config of CONFIGS) runs.push(...(await runsOf(config, context)));
  const record = { ...header, lossShare: LOSS_SHARE, workerCount: 2, runs };
  writeFileSync(join(RESULTS, 'encodings.json'), `${JSON.stringify(record, null, 1)}\n`);
  writeFileSync(join(RESULTS, 'encodings.md'), encodingsPage(record));
  context.print(encodingsPage(record));
} finally {
  await context.close();
  process.chdir(tmpdir());
  rmSync(scratch, { recursive: true, force: true });
}
