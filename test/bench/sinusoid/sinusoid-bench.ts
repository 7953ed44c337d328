/**
 * Sinusoid regression: learners against a network pre-trained on all tasks and finetuned. Writes
 * `infra/results/sinusoid.json` and `.md`.
 *
 *   npm run bench:sinusoid -- --outer-steps 15000 --seeds 1,2,3
 */

import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { systemClock } from '../../../shared/clock.js';
import { packageRoot } from '../../../infra/cli/package-root.js';
import { benchHeader } from '../bench-header.js';
import { SINUSOID_ARMS } from './sinusoid-arms.js';
import { sinusoidOutcomes, type SinusoidOutcome } from './sinusoid-runs.js';
import { sinusoidTable, summaryOf } from './sinusoid-table.js';

const RESULTS = new URL('infra/results/', packageRoot).pathname;

const { values: options } = parseArgs({
  options: {
    'outer-steps': { type: 'string', default: '15000' },
    seeds: { type: 'string', default: '1,2,3' },
  },
});
const outerSteps = Number(options['outer-steps']);
const seeds = options.seeds.split(',').map(Number);

const header = { ...benchHeader(), outerSteps, seeds };
const outcomes: SinusoidOutcome[] = [];
for (const seed of seeds)
  for (const arm of SINUSOID_ARMS) {
    const startMs = systemClock.epochMs();
    outcomes.push(...(await sinusoidOutcomes(arm, seed, outerSteps)));
    const seconds = Math.round((systemClock.epochMs() - startMs) / 1000);
    process.stderr.write(`seed ${seed}, ${arm.name}: ${seconds} s\n`);
    record();
  }

/** After each arm: a run that is stopped leaves what it has. */
function record(): void {
  const rows = summaryOf(outcomes);
  writeFileSync(`${RESULTS}sinusoid.md`, sinusoidTable(header, rows));
  writeFileSync(`${RESULTS}sinusoid.json`, `${JSON.stringify({ ...header, rows }, null, 1)}\n`);
}

process.stdout.write(sinusoidTable(header, summaryOf(outcomes)));
