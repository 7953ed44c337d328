/**
 * A hundred thousand captured calls of second order, with alternating shapes so that graphs are
 * freed and recreated. Checks that resident memory is flat and that nothing is left. Writes
 * infra/results/capture-soak.json. `npm run bench:soak`.
 */

import { writeFileSync } from 'node:fs';
import { median } from '../../shared/base/arrays.js';
import { systemClock } from '../../shared/base/clock.js';
import { loadEngine } from '../../worker/compute/engine/load-engine.js';
import { leftoversOf, soak } from '../fixtures/compute/capture-soak.js';
import { benchHeader } from './bench-header.js';
import { benchOptions } from './options/bench-options.js';

benchOptions(import.meta.url, {});

const CALL_COUNT = 100_000;
const CALLS_PER_SHAPE = 5_000;
const CALLS_PER_SAMPLE = 1_000;
/** By then, the memory that the allocators of V8 and TensorFlow retain is allocated. */
const WARM_UP_CALL_COUNT = 20_000;
const RESULT_FILE = 'infra/results/capture-soak.json';

// The native library reads these when `loadEngine` loads it, as in the compute process.
process.env.TF_ENABLE_ONEDNN_OPTS ??= '1';
for (const threads of ['TF_NUM_INTRAOP_THREADS', 'TF_NUM_INTEROP_THREADS', 'OMP_NUM_THREADS'])
  process.env[threads] ??= '1';
const header = benchHeader();
const engine = await loadEngine('tensorflow', console.warn);
const collectGarbage = (globalThis as { gc?: () => void }).gc;
if (collectGarbage === undefined) throw new Error('run with node --expose-gc');
const samples: { callCount: number; residentBytes: number; tensorCount: number }[] = [];
const startMs = systemClock.monotonicMs();
const { captureCount, evictionCount, captureMs } = soak(engine, {
  callCount: CALL_COUNT,
  callsPerShape: CALLS_PER_SHAPE,
  onCall: (callCount) => {
    if (callCount % CALLS_PER_SAMPLE !== 0) return;
    collectGarbage();
    const { tensorCount } = leftoversOf(engine);
    samples.push({ callCount, residentBytes: process.memoryUsage().rss, tensorCount });
  },
});
const seconds = (systemClock.monotonicMs() - startMs) / 1000;
const warm = samples.filter(({ callCount }) => callCount >= WARM_UP_CALL_COUNT);
const fifth = Math.floor(warm.length / 5);
const medianBytes = (part: typeof samples): number =>
  median(part.map(({ residentBytes }) => residentBytes));
const [earlyBytes, lateBytes] = [
  medianBytes(warm.slice(0, fifth)),
  medianBytes(warm.slice(-fifth)),
];
const mebibytes = (bytes: number): number => Math.round((10 * bytes) / 2 ** 20) / 10;
const result = {
  ...header,
  engine: engine.description,
  callCount: CALL_COUNT,
  warmUpCallCount: WARM_UP_CALL_COUNT,
  microsecondsPerCall: Math.round((1e6 * seconds) / CALL_COUNT),
  captureCount,
  evictionCount,
  millisecondsPerCapture: Math.round(captureMs / captureCount),
  residentMiBEarly: mebibytes(earlyBytes),
  residentMiBLate: mebibytes(lateBytes),
  residentGrowthPercent: Math.round(10_000 * (lateBytes / earlyBytes - 1)) / 100,
  leftAfterwards: leftoversOf(engine),
  residentMiBByThousandCalls: samples.map(({ residentBytes }) => mebibytes(residentBytes)),
};
writeFileSync(RESULT_FILE, `${JSON.stringify(result, null, 2)}\n`);
const { residentMiBByThousandCalls: _, ...summary } = result;
console.log(summary);
