/**
 * `npm run fuzz` gives seeded, mutated inputs to every parser of what comes from outside of a process. A
 * parser must return a value or refuse with the error that it documents, in bounded time and memory.
 *
 *   npm run fuzz -- --inputs 1000000 --seed 7            all targets, which share the inputs
 *   npm run fuzz -- --inputs 20000 --only codec,job      some of them
 *   npm run fuzz -- --slices 10 --record infra/results/fuzz.md
 *                                   ten seeds in turn; writes the counts down after each of them
 *
 * Exits 1 at any finding. A finding is printed with its seed, its index and a shrunk input in base64; a
 * parser that hangs is ended by the watchdog after 5 to 6 s of the processor, or two minutes. The process may write to no folder: Node's
 * permission model turns an attempt into a finding.
 */

import { writeFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { systemClock } from '../../shared/base/clock.js';
import { benchHeader, grouped, markdownTable } from '../bench/bench-header.js';
import { benchOptions } from '../bench/bench-options.js';
import { anySeed, listOf, oneOf, text, wholeNumber } from '../bench/option-values.js';
import { type Finding, type FuzzTarget, runTarget, type TargetOutcome } from './fuzz-target.js';
import { FUZZ_TARGETS } from './targets.js';

const INPUT_BYTE_COUNT_MAX = 4 * 1024 * 1024;
const COMPUTED_MS_MAX = 5_000;
const SILENT_MS_MAX = 120_000;
const LOOK_INTERVAL_MS = 1_000;

/**
 * Ends a process that is stuck on one input, from a thread of its own, since a parser that never returns lets nothing else run
 * on its thread. It counts time of the processor, which others cannot use up; a parser that waits takes none, and has its own
 * limit. As text, it needs no compiled file.
 */
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

function startWatchdog(): Watchdog {
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

const FINDINGS_MAX = 3;
const PROGRESS_INTERVAL_MS = 10_000;
const PULSE_INTERVAL_MS = 1_000;

const names = FUZZ_TARGETS.map(({ name }) => name);
const {
  inputs: inputCount,
  seed,
  only: chosen = names,
  slices: sliceCount,
  record,
} = benchOptions(import.meta.url, {
  inputs: { value: wholeNumber(), default: '100000', about: 'inputs of all targets together' },
  seed: { value: anySeed, default: '7', about: 'seed of the first slice' },
  only: { value: listOf(oneOf(names)), about: 'some targets; all by default' },
  slices: { value: wholeNumber(), default: '1', about: 'how many seeds, one after another' },
  record: { value: text, about: 'file for the counts' },
});
const targets = FUZZ_TARGETS.filter(({ name }) => chosen.includes(name));

const header = record === undefined ? null : benchHeader();
const shares = targets.reduce((sum, { share }) => sum + share, 0);
const watchdog = startWatchdog();
const sums = new Map<FuzzTarget, TargetOutcome>();
const findings: Finding[] = [];
let lastBeat = (): void => undefined;
// A parser that waits for an answer leaves the thread free, and its time is limited elsewhere.
const pulse = setInterval(() => lastBeat(), PULSE_INTERVAL_MS);
for (let slice = 0; slice < sliceCount; slice += 1) {
  for (const [targetIndex, target] of targets.entries())
    await fuzz(targetIndex, target, seed + slice);
  if (record !== undefined) writeFileSync(record, page(slice + 1));
}
clearInterval(pulse);
watchdog.close();
console.log(`${findings.length} findings`);
// Servers and connections of the targets stay open.
process.exit(findings.length === 0 ? 0 : 1);

async function fuzz(targetIndex: number, target: FuzzTarget, sliceSeed: number): Promise<void> {
  let toldMs = systemClock.monotonicMs();
  const ownCount = Math.ceil((inputCount * target.share) / shares / sliceCount);
  const outcome = await runTarget(target, {
    ...{ seed: sliceSeed, inputCount: ownCount, findingsMax: FINDINGS_MAX },
    onInput: (index, input) => {
      lastBeat = () => watchdog.beat(targetIndex, index, input);
      lastBeat();
      if (systemClock.monotonicMs() - toldMs < PROGRESS_INTERVAL_MS) return;
      toldMs = systemClock.monotonicMs();
      process.stderr.write(`${target.name}: ${grouped(index)} of ${grouped(ownCount)}\n`);
    },
  });
  const before = sums.get(target);
  sums.set(target, before === undefined ? outcome : together(before, outcome));
  findings.push(...outcome.findings);
  outcome.findings.forEach(tell);
  const { accepted, refused } = outcome;
  console.log(`${target.name}: ${accepted} accepted, ${refused} refused, ${secondsOf(outcome)} s`);
}

function together(one: TargetOutcome, other: TargetOutcome): TargetOutcome {
  return {
    accepted: one.accepted + other.accepted,
    refused: one.refused + other.refused,
    durationMs: one.durationMs + other.durationMs,
    findings: [...one.findings, ...other.findings],
  };
}

function tell({ target, seed: sliceSeed, index, what, input }: Finding): void {
  console.log(`FINDING ${target}, seed ${sliceSeed}, input ${index}: ${what}`);
  console.log(`  shrunk: ${Buffer.from(input).toString('base64').slice(0, 4_000)}`);
}

function secondsOf({ durationMs }: TargetOutcome): string {
  return (durationMs / 1000).toFixed(1);
}

function page(slicesDone: number): string {
  const outcomes = [...sums];
  const total = outcomes.reduce((sum, [, { accepted, refused }]) => sum + accepted + refused, 0);
  const rows = outcomes.map(([{ name }, outcome]) => [
    ...[name, grouped(outcome.accepted + outcome.refused), grouped(outcome.accepted)],
    ...[grouped(outcome.refused), outcome.findings.length, secondsOf(outcome)],
  ]);
  const seeds = slicesDone === 1 ? `Seed ${seed}` : `Seeds ${seed} to ${seed + slicesDone - 1}`;
  return [
    '# Fuzzing the parsers',
    '',
    `Commit ${header?.commit}, ${header?.date}; ${header?.machine}; load before ${header?.loadBefore}.`,
    `${seeds}, ${grouped(total)} inputs. Times are those of a shared machine and include making the inputs.`,
    '',
    ...markdownTable(['target', 'inputs', 'accepted', 'refused', 'findings', 'seconds'], rows),
    '',
    'Requests to the dashboard and answers of S3 go through real sockets. The parser of the dashboard answers every request, so none',
    'counts as refused.',
    '',
  ].join('\n');
}
