/**
 * Sinusoid regression: learners against a network pre-trained on all tasks and finetuned. Writes
 * `infra/results/sinusoid.json` and `.md` once every arm has run with every seed. Finished arms are
 * kept in a folder and not run again: with `--minutes`, no arm starts after that time, and the same
 * command resumes from there.
 *
 *   npm run bench:sinusoid -- --outer-steps 15000 --seeds 1,2,3 --minutes 8
 */

import { writeFileSync } from 'node:fs';
import { systemClock } from '../../../shared/base/clock.js';
import { packageRoot } from '../../../infra/library/package-root.js';
import { benchHeader } from '../bench-header.js';
import { SINUSOID_ARMS } from './sinusoid-arms.js';
import { isKept, keepOutcomes, keptOutcomes } from './sinusoid-outcome.js';
import { sinusoidOutcomes } from './sinusoid-runs.js';
import { sinusoidTable, summaryOf } from './sinusoid-table.js';
import { benchOptions } from '../options/bench-options.js';
import { amount, listOf, anySeed, text, wholeNumber } from '../options/option-values.js';

const RESULTS = new URL('infra/results/', packageRoot).pathname;
const MS_PER_MINUTE = 60_000;
/** The exit code of an interrupted, resumable run. */
const EXIT_CODE_UNFINISHED = 4;

const options = benchOptions(import.meta.url, {
  'outer-steps': { value: wholeNumber(), default: '15000', about: 'outer steps of each run' },
  seeds: { value: listOf(anySeed), default: '1,2,3', about: 'seeds, with commas between them' },
  minutes: {
    value: amount(),
    about: 'minutes after which nothing more is begun; no bound if absent',
  },
  folder: {
    value: text,
    default: 'runs/sinusoid',
    about: 'folder of what the bench makes meanwhile',
  },
});
const { folder, seeds, 'outer-steps': outerSteps } = options;
const header = benchHeader();
const startMs = systemClock.monotonicMs();
const endMs = startMs + (options.minutes ?? Infinity) * MS_PER_MINUTE;

const runs = seeds.flatMap((seed) => SINUSOID_ARMS.map((arm) => ({ arm, seed, outerSteps })));
for (const run of runs) {
  const armStartMs = systemClock.monotonicMs();
  const name = `seed ${run.seed}, ${run.arm.name}`;
  if (isKept(folder, run)) {
    const { commit } = keptOutcomes(folder, run);
    process.stderr.write(`${name}: already finished at commit ${commit}, kept in ${folder}\n`);
    continue;
  }
  if (armStartMs >= endMs) continue;
  const outcomes = await sinusoidOutcomes(run);
  keepOutcomes(folder, run, { commit: header.commit, outcomes });
  const seconds = Math.round((systemClock.monotonicMs() - armStartMs) / 1000);
  process.stderr.write(`${name}: ${seconds} s\n`);
}

const missing = runs.filter((run) => !isKept(folder, run));
if (missing.length > 0) {
  process.stderr.write(`${missing.length} of ${runs.length} arms remain: run the command again\n`);
  process.exitCode = EXIT_CODE_UNFINISHED;
} else record();

function record(): void {
  const kept = runs.map((run) => keptOutcomes(folder, run));
  const commit = [...new Set(kept.map((each) => each.commit))].join(', ');
  const circumstances = { ...header, commit, outerSteps, seeds };
  const rows = summaryOf(kept.flatMap(({ outcomes }) => outcomes));
  const table = sinusoidTable(circumstances, rows);
  writeFileSync(`${RESULTS}sinusoid.md`, table);
  const json = JSON.stringify({ ...circumstances, rows }, null, 1);
  writeFileSync(`${RESULTS}sinusoid.json`, `${json}\n`);
  process.stdout.write(table);
}
