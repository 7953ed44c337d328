/**
 * `npm run fuzz` gives seeded, mutated inputs to every parser of what comes from outside of a process. A
 * parser must return a value or refuse with the error that it documents, in bounded time and memory.
 *
 *   npm run fuzz -- --inputs 1000000 --seed 7            all targets, which share the inputs
 *   npm run fuzz -- --inputs 20000 --only codec,job      some of them
 *   npm run fuzz -- --record infra/results/fuzz.md       writes the counts down
 *
 * Exits 1 at any finding. A finding is printed with its seed, its index and a shrunk input in base64; a
 * parser that hangs is ended by the watchdog after 5 to 10 s. The process may write to no folder: Node's
 * permission model turns an attempt into a finding.
 */

import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { systemClock } from '../../shared/base/clock.js';
import { benchHeader, grouped, markdownTable } from '../bench/bench-header.js';
import { runTarget, type Finding, type FuzzTarget, type TargetOutcome } from './fuzz-target.js';
import { FUZZ_TARGETS } from './targets.js';
import { startWatchdog } from './watchdog.js';

const FINDINGS_MAX = 3;
const PROGRESS_INTERVAL_MS = 10_000;

const { values: options } = parseArgs({
  options: {
    inputs: { type: 'string', default: '100000' },
    seed: { type: 'string', default: '7' },
    only: { type: 'string' },
    record: { type: 'string' },
  },
});
const inputCount = z.coerce.number().int().positive().parse(options.inputs);
const seed = z.coerce.number().int().nonnegative().parse(options.seed);
const chosen = options.only?.split(',') ?? FUZZ_TARGETS.map(({ name }) => name);
const targets = FUZZ_TARGETS.filter(({ name }) => chosen.includes(name));
if (targets.length < chosen.length) {
  const known = FUZZ_TARGETS.map(({ name }) => name).join(', ');
  process.stderr.write(`no such target; expected some of ${known}\n`);
  process.exit(2);
}

const header = options.record === undefined ? null : benchHeader();
const shares = targets.reduce((sum, { share }) => sum + share, 0);
const watchdog = startWatchdog();
const outcomes: [FuzzTarget, TargetOutcome][] = [];
for (const [targetIndex, target] of targets.entries()) {
  let toldMs = systemClock.monotonicMs();
  const ownCount = Math.ceil((inputCount * target.share) / shares);
  const outcome = await runTarget(target, {
    ...{ seed, inputCount: ownCount, findingsMax: FINDINGS_MAX },
    onInput: (index, input) => {
      watchdog.beat(targetIndex, index, input);
      if (systemClock.monotonicMs() - toldMs < PROGRESS_INTERVAL_MS) return;
      toldMs = systemClock.monotonicMs();
      process.stderr.write(`${target.name}: ${grouped(index)} of ${grouped(ownCount)}\n`);
    },
  });
  outcomes.push([target, outcome]);
  outcome.findings.forEach(tell);
  const { accepted, refused } = outcome;
  console.log(`${target.name}: ${accepted} accepted, ${refused} refused, ${secondsOf(outcome)} s`);
}
watchdog.close();

const findings = outcomes.flatMap(([, outcome]) => outcome.findings);
if (options.record !== undefined) writeFileSync(options.record, page());
console.log(`${findings.length} findings`);
process.exitCode = findings.length === 0 ? 0 : 1;

function tell({ target, index, what, input }: Finding): void {
  console.log(`FINDING ${target}, seed ${seed}, input ${index}: ${what}`);
  console.log(`  shrunk: ${Buffer.from(input).toString('base64').slice(0, 4_000)}`);
}

function secondsOf({ durationMs }: TargetOutcome): string {
  return (durationMs / 1000).toFixed(1);
}

function page(): string {
  const total = outcomes.reduce((sum, [, { accepted, refused }]) => sum + accepted + refused, 0);
  const rows = outcomes.map(([{ name }, outcome]) => [
    ...[name, grouped(outcome.accepted + outcome.refused), grouped(outcome.accepted)],
    ...[grouped(outcome.refused), outcome.findings.length, secondsOf(outcome)],
  ]);
  return [
    '# Fuzzing the parsers',
    '',
    `Commit ${header?.commit}, ${header?.date}; ${header?.machine}; load before ${header?.loadBefore}.`,
    `Seed ${seed}, ${grouped(total)} inputs. Times are those of a shared machine and include making the inputs.`,
    '',
    ...markdownTable(['target', 'inputs', 'accepted', 'refused', 'findings', 'seconds'], rows),
    '',
  ].join('\n');
}
