/**
 * `npm run check -- soak` trains for an hour under random kills, suspensions, failovers and full disks, and shows
 * whether memory, files, keys and blobs stay flat.
 *
 *   npm run check -- soak --minutes 5 --seed 3
 *   npm run check -- soak --record infra/results/soak     writes soak.json and soak.md
 *
 * A record is also written every ten minutes, so that a soak that is cut off leaves what it has seen.
 */

import { readdir, readFile } from 'node:fs/promises';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { systemClock } from '../../shared/base/clock.js';
import { randomStream } from '../../shared/base/random.js';
import { benchHeader } from '../bench/bench-header.js';
import { thinned } from './flatness.js';
import { strikeUntil, type FaultCounts } from './soak-faults.js';
import { soakPage, verdictOf, type SoakEnd, type SoakRecord } from './soak-page.js';
import {
  describeEnd,
  isOutage,
  keptRunning,
  trials,
  type Findings,
  type Victim,
} from './soak-processes.js';
import { BLOB_LIFETIME_MINUTES, openSoakRoom, QUEUE_PREFIX, type SoakRoom } from './soak-room.js';
import { contentOf, processCount, Sampler } from './soak-samples.js';
import { benchOptions } from '../bench/bench-options.js';
import { amount, anySeed, text } from '../bench/option-values.js';

const TRIAL_OUTER_STEPS = 200;
const STEADY_OUTER_STEPS_MAX = 10_000_000;
const STRUCK_WORKER_COUNT = 2;
const RECORD_INTERVAL_MS = 600_000;
const RECORDED_POINTS_MAX = 120;
const INTERRUPTED = 4;

const CheckpointSchema = z.looseObject({ outerStep: z.int(), digest: z.string() });

const options = benchOptions(import.meta.url, {
  minutes: { value: amount(), default: '60', about: 'minutes of training' },
  seed: { value: anySeed, default: '7', about: 'seed of what is drawn' },
  record: {
    value: text,
    about: 'path of the record, without its ending; nothing is recorded if absent',
  },
});
const { minutes, seed } = options;

const header = benchHeader();
const findings: Findings = [];
const faults: FaultCounts = {};
const counts = { completed: 0, resumed: 0 };
const room = await openSoakRoom();
try {
  await soak();
} finally {
  await room.close();
}
process.exitCode = findings.length === 0 ? 0 : 1;

async function soak(): Promise<void> {
  const redisUrl = room.redis.url;
  const steady = await room.writeRun('steady', STEADY_OUTER_STEPS_MAX);
  const outputs = {
    steady: join(room.folder, 'steady'),
    struck: join(room.disk?.folder ?? room.folder, 'struck'),
  };
  const struck = await room.writeRun('struck', TRIAL_OUTER_STEPS, outputs.struck);
  await room.done('prepare', struck);
  const digest = await digestInProcess('undisturbed', TRIAL_OUTER_STEPS);

  const startWorker = (name: string) =>
    room.start('worker', '--redis', redisUrl, '--prefix', QUEUE_PREFIX, '--name', name);
  const steadyWorker = startWorker('steady');
  const steadyCoordinator = room.start('train', steady, '--redis', redisUrl);
  const struckWorkers = Array.from({ length: STRUCK_WORKER_COUNT }, (_, index): Victim => {
    const name = `struck-${index + 1}`;
    const judge: Parameters<typeof keptRunning>[0]['judge'] = (ended, wasStruck) =>
      wasStruck || isOutage(ended) ? null : describeEnd(name, ended);
    return keptRunning({ name, start: () => startWorker(name), judge }, findings);
  });
  const start = room.start;
  const struckCoordinator = trials({ config: struck, redisUrl, digest, start }, counts, findings);

  const sampler = new Sampler({
    ...{ room, steadyCoordinator, steadyWorker, struckCoordinator, struckWorkers, outputs },
  });
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort());
  const sampling = sampler.sampleUntil(stop.signal);
  const striking = strikeUntil(
    stop.signal,
    { workers: struckWorkers, coordinator: struckCoordinator, redis: room.redis, disk: room.disk },
    randomStream(seed, 'soak'),
    faults,
  );
  striking.catch((error: unknown) => findings.push(`a fault could not strike: ${String(error)}`));
  const isSteady = Promise.race([steadyCoordinator.ended, steadyWorker.ended]).then((ended) => {
    if (!stop.signal.aborted) findings.push(describeEnd('a steady process', ended));
  });
  void isSteady;
  const endMs = systemClock.monotonicMs() + minutes * 60_000;
  while (systemClock.monotonicMs() < endMs && !stop.signal.aborted) {
    const leftMs = endMs - systemClock.monotonicMs();
    await systemClock.sleep(Math.min(leftMs, RECORD_INTERVAL_MS), stop.signal);
    if (sampler.minutes() < minutes) tell(recordOf(sampler, null));
  }
  stop.abort();
  await Promise.all([sampling, striking.catch(() => undefined)]);
  const recordAtEnd = recordOf(sampler, null);

  await struckCoordinator.stop();
  steadyCoordinator.signal('SIGTERM');
  const steadyEnd = await steadyCoordinator.ended;
  if (steadyEnd.exitCode !== INTERRUPTED)
    findings.push(describeEnd('the steady coordinator', steadyEnd));
  await Promise.all(struckWorkers.map((worker) => worker.stop()));
  steadyWorker.signal('SIGTERM');
  const workerEnd = await steadyWorker.ended;
  if (workerEnd.exitCode !== 0) findings.push(describeEnd('the steady worker', workerEnd));
  tell({ ...recordAtEnd, findings });
  const end = await endOf(room);
  tell({ ...recordAtEnd, ...{ findings, end } });
}

async function digestInProcess(name: string, outerSteps: number): Promise<string> {
  const config = await room.writeRun(name, outerSteps);
  return z
    .object({ digest: z.string() })
    .parse(
      JSON.parse(
        (await room.done('train', config, '--processes', '1', '--fresh', '--format', 'json'))
          .output,
      ),
    ).digest;
}

async function endOf({ redis, temporary }: SoakRoom): Promise<SoakEnd> {
  const processesLeft = processCount(temporary);
  const temporaryFilesLeft = contentOf(temporary).fileCount;
  const { client } = redis.primary();
  const blobs = await client.keys(`${QUEUE_PREFIX}:blob:*`);
  const lifetimes = await Promise.all(blobs.map((key) => client.pttl(key)));
  const steady = await latestCheckpoint(join(room.folder, 'steady', 'events'));
  return {
    ...{ steadyOuterSteps: steady.outerStep, processesLeft, temporaryFilesLeft },
    isSteadyDigestRight: steady.digest === (await digestInProcess('reference', steady.outerStep)),
    blobsLeft: blobs.length,
    // A blob that ends while it is looked at has -2.
    blobsWithoutLifetime: lifetimes.filter((lifetimeMs) => lifetimeMs === -1).length,
  };
}

/** The newest checkpoint that a run's event log tells of. */
async function latestCheckpoint(log: string): Promise<z.infer<typeof CheckpointSchema>> {
  const names = (await readdir(log)).sort();
  const texts = await Promise.all(names.map((name) => readFile(join(log, name), 'utf8')));
  const lines = texts.join('').split('\n');
  const line = lines.findLast((each) => each.includes('"kind":"checkpoint"'));
  return CheckpointSchema.parse(JSON.parse(line ?? 'null'));
}

function recordOf(sampler: Sampler, end: SoakEnd | null): SoakRecord {
  return {
    ...header,
    ...{ seed, minutes: Math.round(10 * sampler.minutes()) / 10, hasOwnDisk: room.disk !== null },
    ...{ faults: { ...faults }, completedRuns: counts.completed, resumes: counts.resumed },
    ...{ findings: [...findings], end, blobLifetimeMinutes: BLOB_LIFETIME_MINUTES },
    measures: sampler
      .measured()
      .map((measure) => ({ ...measure, points: thinned(measure.points, RECORDED_POINTS_MAX) })),
  };
}

function tell(record: SoakRecord): void {
  console.log(`${record.minutes.toFixed(0)} minutes: ${verdictOf(record)}`);
  for (const finding of record.findings) console.log(`FINDING ${finding}`);
  if (options.record === undefined) return;
  writeFileSync(`${options.record}.json`, `${JSON.stringify(record)}\n`);
  writeFileSync(`${options.record}.md`, soakPage(record));
}
