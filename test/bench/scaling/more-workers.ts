/**
 * Outer steps of the heavy config with more workers than this machine has cores: executors sleep for as long as their
 * leaves take, and the coordinator is the real one.
 *
 *   npm run bench:more-workers -- --workers 1,2,4,8,16
 */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse } from 'yaml';
import { createInMemoryDispatcher } from '../../../coordinator/dispatch/in-memory-dispatcher.js';
import { openCheckpoints } from '../../../coordinator/checkpoints/checkpoint-writer.js';
import type { PreparedRun } from '../../../coordinator/plan/prepared-run.js';
import { train } from '../../../coordinator/training/outer-loop.js';
import { packageRoot } from '../../../infra/library/package-root.js';
import { at, median } from '../../../shared/base/arrays.js';
import { systemClock } from '../../../shared/base/clock.js';
import { decidingPart, RunConfigSchema } from '../../../shared/config/run-config.js';
import type { RunEvent } from '../../../shared/events/run-events.js';
import { modelSpecOf } from '../../../shared/models/model-spec.js';
import { counted } from '../../../shared/names/counted.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import { openTaskStore } from '../../../shared/tasks/task-store-reader.js';
import { storeForModel } from '../../../shared/tasks/trained-padding.js';
import { benchHeader, markdownTable } from '../bench-header.js';
import { configFileOf, openRooms, prepareRoom } from './scaling-configs.js';
import { sleepingExecutor } from './sleeping-executor.js';
import { benchOptions } from '../options/bench-options.js';
import { listOf, text, wholeNumber } from '../options/option-values.js';

const WARM_UP_STEPS = 10;

const options = benchOptions(import.meta.url, {
  workers: {
    value: listOf(wholeNumber()),
    default: '1,2,4,8,16',
    about: 'numbers of workers, with commas between them',
  },
  steps: { value: wholeNumber(), default: '60', about: 'outer steps of each run' },
  rounds: {
    value: wholeNumber(),
    default: '3',
    about: 'how often everything is measured, in turns',
  },
  output: {
    value: text,
    default: new URL('infra/results/', packageRoot).pathname,
    about: 'folder of the record and its page',
  },
});
const { steps: outerSteps, rounds, workers: workerCounts } = options;

async function heavyRun(folder: string): Promise<PreparedRun> {
  const config = RunConfigSchema.parse(
    parse(readFileSync(join(folder, configFileOf('heavy')), 'utf8')),
  );
  const stored = await openTaskStore(join(folder, config.data.store), {});
  return {
    ...{ config, store: storeForModel(config.model, stored), storeAddress: 'file:///heavy' },
    spec: modelSpecOf(config.model, stored.manifest.features, config.method),
  };
}

/** The median time of an outer step, in milliseconds. */
async function stepMsWith(run: PreparedRun, workerCount: number): Promise<number> {
  const moments: number[] = [];
  const sink = (event: RunEvent): void => {
    if (event.kind === 'outer-step') moments.push(systemClock.monotonicMs());
  };
  const dispatcher = createInMemoryDispatcher({
    executors: Array.from({ length: workerCount }, () => sleepingExecutor(run)),
    ...{ clock: systemClock, attemptsMax: 1, sink },
  });
  const { config, store, spec } = run;
  await train({
    ...{ run, dispatcher },
    checkpoints: openCheckpoints({
      ...{ store: new MemoryObjectStore(), runName: config.run, configHash: 'none', spec, kept: 1 },
      ...{ deciding: decidingPart(config), storeDigest: store.digest, clock: systemClock, sink },
    }),
    start: { resume: false },
    caller: { clock: systemClock, sink, signal: new AbortController().signal },
  });
  return median(
    moments
      .slice(1)
      .map((atMs, place) => atMs - at(moments, place))
      .slice(WARM_UP_STEPS),
  );
}

const scratch = mkdtempSync(join(tmpdir(), 'qianmo-workers-'));
try {
  const header = benchHeader();
  const room = at(openRooms(scratch, undefined), 0);
  const lengths = { heavy: outerSteps, demo: 1, synthetic: 1, w2: 1 };
  prepareRoom(room, ['heavy'], { rows: '1M', outerSteps: lengths });
  const run = await heavyRun(room.folder);
  const measured = workerCounts.map((workerCount) => {
    return { workerCount, stepMs: [] as number[] };
  });
  for (let round = 1; round <= rounds; round += 1)
    for (const { workerCount, stepMs } of measured) {
      stepMs.push(await stepMsWith(run, workerCount));
      console.log(`round ${round}, ${workerCount}: ${at(stepMs, round - 1)}`);
    }
  await run.store.close();
  mkdirSync(options.output, { recursive: true });
  writeFileSync(
    join(options.output, 'more-workers.json'),
    `${JSON.stringify({ ...header, outerSteps, measured }, null, 1)}\n`,
  );
  writeFileSync(join(options.output, 'more-workers.md'), pageOf(header, measured));
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

function pageOf(
  { commit, date, machine, loadBefore }: ReturnType<typeof benchHeader>,
  measured: readonly { workerCount: number; stepMs: number[] }[],
): string {
  const first = at(measured, 0);
  const alone = median(first.stepMs);
  const rows = measured.map(({ workerCount, stepMs }) => {
    const ms = median(stepMs);
    return [workerCount, ms.toFixed(1), (alone / ms).toFixed(2)];
  });
  return [
    '# More workers than cores',
    '',
    `\`npm run bench:more-workers\`, commit ${commit}, ${date}, ${machine}, load ${loadBefore} before. The heavy config of`,
    `\`bench:scaling\` for ${counted(outerSteps, 'outer step')}, the median of ${counted(rounds, 'interleaved round')} of the median step in milliseconds. The coordinator`,
    'is the real one. Workers are executors of its process that sleep for as long as their leaves take on one core, so this is',
    'what the division of a step and the coordinator allow, and nothing of queue, network or cores.',
    '',
    ...markdownTable(['workers', 'ms', `times ${first.workerCount}`], rows),
    '',
    'Leaves are of bounded cost, and workers share them as whole subtrees of the sum tree. So a step cannot be shorter than its',
    'largest leaf.',
    '',
  ].join('\n');
}
