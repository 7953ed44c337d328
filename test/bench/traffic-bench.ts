/**
 * The traffic of an outer step through Redis, by kind, on a synthetic log with over 10,000 adgroups
 * and a table of a million rows; then with twice the table; then with smaller and larger outer
 * steps. Writes `infra/results/traffic.json` and `.md`.
 *
 *   npm run bench:traffic -- --outer-steps 600
 */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { parseRowCount } from '../../coordinator/synthesize/row-count.js';
import { synthesize } from '../../coordinator/synthesize/synthesize.js';
import { openBenchContext, type BenchContext } from './bench-context.js';
import { packageRoot } from '../../infra/library/package-root.js';
import { prepareRun } from '../../coordinator/runs/prepare-run.js';
import { parseRunConfig } from '../../shared/config/load-run-config.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { benchHeader } from './bench-header.js';
import {
  DOUBLED_FEATURE,
  meteredRun,
  storeWithDoubledTable,
  type RunTraffic,
} from './traffic-run.js';
import { compared, meanStep, rowBytesFit, trafficPage } from './traffic-table.js';
import { benchOptions } from './options/bench-options.js';
import { rowsAsWritten, text, wholeNumber } from './options/option-values.js';

const EXAMPLE = new URL('infra/examples/synthetic.yaml', packageRoot);
const RESULTS = new URL('infra/results/', packageRoot).pathname;
const BUCKET_COUNT = 1_000_000;
const TASKS_PER_OUTER_STEP = 128;
const OTHER_TASKS_PER_OUTER_STEP = [32, 512];

const ExampleSchema = z.looseObject({
  data: z.looseObject({ features: z.array(z.looseObject({ name: z.string() })) }),
  training: z.looseObject({}),
});

const options = benchOptions(import.meta.url, {
  rows: { value: rowsAsWritten, default: '1M', about: 'rows of the log' },
  'outer-steps': { value: wholeNumber(), default: '600', about: 'outer steps of each run' },
  'other-outer-steps': {
    value: wholeNumber(),
    default: '20',
    about: 'outer steps of the runs that differ from the first in more than the size of the table',
  },
  folder: { value: text, default: tmpdir(), about: 'folder of what the bench makes meanwhile' },
});

interface RunPart {
  readonly store: string;
  readonly outerSteps: number;
  readonly bucketCount?: number;
  readonly tasksPerOuterStep?: number;
}

/** The example's config with the paths and sizes of one run. */
function configOf(folder: string, part: RunPart): RunConfig {
  const example = ExampleSchema.parse(parse(readFileSync(EXAMPLE, 'utf8')));
  const features = example.data.features.map((feature) =>
    feature.name === DOUBLED_FEATURE
      ? { ...feature, hashBuckets: part.bucketCount ?? BUCKET_COUNT }
      : feature,
  );
  const data = {
    ...example.data,
    features,
    logs: join(folder, 'log.csv'),
    store: join(folder, part.store),
  };
  const training = {
    ...example.training,
    outerSteps: part.outerSteps,
    tasksPerOuterStep: part.tasksPerOuterStep ?? TASKS_PER_OUTER_STEP,
    checkpointEveryOuterSteps: part.outerSteps,
  };
  const config = { ...example, run: 'traffic', data, training, output: join(folder, 'output') };
  return parseRunConfig(stringify(config), EXAMPLE.pathname);
}

async function runsIn(folder: string, context: BenchContext): Promise<RunTraffic[]> {
  const { 'outer-steps': outerSteps, 'other-outer-steps': otherOuterSteps } = options;
  await synthesize({
    rows: parseRowCount(options.rows),
    setting: 'strong',
    meanClickRate: 0.03,
    seed: 7,
    path: join(folder, 'log.csv'),
    format: 'csv',
    clock: context.clock,
    sink: context.sink,
    signal: context.signal,
  });
  // Names of equal length: the address of the store is part of every job record.
  const single = configOf(folder, { store: 'single-', outerSteps });
  const doubled = configOf(folder, { store: 'doubled', outerSteps });
  const rehashed = configOf(folder, {
    ...{ store: 'rehash-', outerSteps: otherOuterSteps, bucketCount: 2 * BUCKET_COUNT },
  });
  await prepareRun({ config: single, force: false }, context);
  await storeWithDoubledTable(single.data.store, doubled.data.store);
  await prepareRun({ config: rehashed, force: false }, context);

  const runs = [
    await meteredRun('table', single, context),
    await meteredRun('table doubled, same ids', doubled, context),
    await meteredRun('hashed into twice the buckets', rehashed, context),
  ];
  for (const tasksPerOuterStep of OTHER_TASKS_PER_OUTER_STEP) {
    const part = { store: 'single-', outerSteps: otherOuterSteps, tasksPerOuterStep };
    runs.push(await meteredRun(`${tasksPerOuterStep} tasks`, configOf(folder, part), context));
  }
  return runs;
}

const header = benchHeader();
const context = openBenchContext();
const folder = mkdtempSync(join(options.folder, 'qianmo-traffic-bench-'));
try {
  const runs = await runsIn(folder, context);
  const [single, doubled] = runs;
  if (single === undefined || doubled === undefined) throw new Error('there are no runs');
  const text = trafficPage(header, runs);
  const facts = {
    ...header,
    doubledTable: compared(single, doubled),
    redisBytesOnRowsTouched: rowBytesFit(single),
  };
  const lines = runs.map((run) => JSON.stringify({ ...run, meanStep: meanStep(run) }));
  const json = JSON.stringify(facts, null, 1).replace(
    /\n}$/,
    `,\n "runs": [\n${lines.join(',\n')}\n ]\n}\n`,
  );
  mkdirSync(RESULTS, { recursive: true });
  writeFileSync(join(RESULTS, 'traffic.json'), json);
  writeFileSync(join(RESULTS, 'traffic.md'), text);
  context.print(text);
} finally {
  await context.close();
  rmSync(folder, { recursive: true, force: true });
}
