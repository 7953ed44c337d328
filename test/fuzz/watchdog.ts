/**
 * Ends a process that is stuck on one input, and names the input. It runs on a thread of its own, since a
 * parser that never returns lets nothing else run on its thread. It counts time of the processor, since others may
 * keep it from this process for longer than any parser takes; a parser that waits for ever takes none, and has its own limit.
 */

import { Worker } from 'node:worker_threads';

const INPUT_BYTE_COUNT_MAX = 4 * 1024 * 1024;
const COMPUTED_MS_MAX = 5_000;
const SILENT_MS_MAX = 120_000;
const LOOK_INTERVAL_MS = 1_000;

/** JavaScript as text, so that it needs no compiled file. */
const WATCH = `
const { workerData, parentPort } = require('node:worker_threads');
const { writeSync } = require('node:fs');
const { state, input, computedMsMax, silentMsMax, lookIntervalMs } = workerData;
let seen = { beat: -1, cpu: process.cpuUsage(), atMs: performance.now() };
setInterval(() => {
  const beat = Atomics.load(state, 0);
  if (beat !== seen.beat) {
    seen = { beat, cpu: process.cpuUsage(), atMs: performance.now() };
    return;
  }
  const { user, system } = process.cpuUsage(seen.cpu);
  if ((user + system) / 1000 < computedMsMax && performance.now() - seen.atMs < silentMsMax) return;
  const bytes = Buffer.from(input.slice(0, Atomics.load(state, 2)));
  const hang = { target: Atomics.load(state, 3), index: Atomics.load(state, 1) };
  writeSync(2, 'HANG on target ' + hang.target + ', input ' + hang.index + ': ' + bytes.toString('base64') + '\\n');
  process.kill(process.pid, 'SIGKILL');
}, lookIntervalMs);
parentPort.on('message', () => process.exit());
`;

interface Watchdog {
  /** Says that a parser begins with this input. */
  beat(targetIndex: number, index: number, input: Uint8Array): void;
  close(): void;
}

export function startWatchdog(): Watchdog {
  const state = new Int32Array(new SharedArrayBuffer(16));
  const input = new Uint8Array(new SharedArrayBuffer(INPUT_BYTE_COUNT_MAX));
  const workerData = {
    ...{ state, input, lookIntervalMs: LOOK_INTERVAL_MS },
    ...{ computedMsMax: COMPUTED_MS_MAX, silentMsMax: SILENT_MS_MAX },
  };
  const worker = new Worker(WATCH, { eval: true, workerData });
  worker.unref();
  return {
    beat: (targetIndex, index, bytes) => {
      const length = Math.min(bytes.byteLength, INPUT_BYTE_COUNT_MAX);
      input.set(bytes.subarray(0, length));
      Atomics.store(state, 1, index);
      Atomics.store(state, 2, length);
      Atomics.store(state, 3, targetIndex);
      Atomics.add(state, 0, 1);
    },
    close: () => worker.postMessage('end'),
  };
}
