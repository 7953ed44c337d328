/**
 * Outer steps of the heavy config with more workers than this machine has cores: executors sleep for as long as their
 * micro-batches take, and the coordinator is the real one. Whole jobs beside jobs in parts.
 *
 *   npm run bench:more-workers -- --workers 1,2,4,8,16
 */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse } from 'yaml';
import { createInMemoryDispatcher } from '../../../coordinator/dispatch/in-memory/in-memory-dispatcher.js';
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
async function stepMsWith(
  run: PreparedRun,
  workerCount: number,
  hasParts: boolean,
): Promise<number> {
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
    run,
    // With one worker, jobs are whole.
    dispatcher: hasParts ? dispatcher : { ...dispatcher, executorCount: () => 1 },
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
    return { workerCount, wholeMs: [] as number[], partsMs: [] as number[] };
  });
  for (let round = 1; round <= rounds; round += 1)
    for (const { workerCount, wholeMs, partsMs } of measured) {
      wholeMs.push(await stepMsWith(run, workerCount, false));
      partsMs.push(await stepMsWith(run, workerCount, true));
      console.log(
        `round ${round}, ${workerCount}: ${at(wholeMs, round - 1)} ${at(partsMs, round - 1)}`,
      );
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
  measured: readonly { workerCount: number; wholeMs: number[]; partsMs: number[] }[],
): string {
  const first = at(measured, 0);
  const alone = median(first.wholeMs);
  const rows = measured.map(({ workerCount, wholeMs, partsMs }) => {
    const [whole, parts] = [median(wholeMs), median(partsMs)];
    const times = (ms: number): string => (alone / ms).toFixed(2);
    return [workerCount, whole.toFixed(1), times(whole), parts.toFixed(1), times(parts)];
  });
  return [
    '# More workers than cores',
    '',
    `\`npm run bench:more-workers\`, commit ${commit}, ${date}, ${machine}, load ${loadBefore} before. The heavy config of`,
    `\`bench:scaling\` for ${counted(outerSteps, 'outer step')}, the median of ${counted(rounds, 'interleaved round')} of the median step in milliseconds. The coordinator`,
    'is the real one. Workers are executors of its process that sleep for as long as their micro-batches take on one core, so this is',
    'what the division of a step and the coordinator allow, and nothing of queue, network or cores.',
    '',
    ...markdownTable(
      [
        'workers',
        'whole jobs',
        `times ${first.workerCount}`,
        'jobs in parts',
        `times ${first.workerCount}`,
      ],
      rows,
    ),
    '',
    'A whole job takes as long as its micro-batches together, and the largest has half of the rows of a step. In parts, a job is',
    'sent as its leading micro-batches and each of the others (decision 0106), so the largest micro-batch bounds the step from below.',
    '',
  ].join('\n');
}
