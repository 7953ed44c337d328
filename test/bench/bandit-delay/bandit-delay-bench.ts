/**
 * The published regret of Thompson sampling and UCB under delay. Writes `infra/results/bandit-delay.json` and `.md`.
 *
 *   npm run bench:bandit-delay -- --repetitions 8
 */

import { writeFileSync } from 'node:fs';
import { systemClock } from '../../../shared/base/clock.js';
import { packageRoot } from '../../../infra/library/package-root.js';
import { benchHeader } from '../bench-header.js';
import { banditDelayPage, DELAYS_STEPS, type DelayedRegrets } from './bandit-delay-page.js';
import { DELAYED_POLICIES, regretOf } from './delayed-bandit.js';
import { benchOptions } from '../options/bench-options.js';
import { wholeNumber } from '../options/option-values.js';

const RESULTS = new URL('infra/results/', packageRoot).pathname;
const STEP_COUNT = 1_000_000;

const options = benchOptions(import.meta.url, {
  repetitions: { value: wholeNumber(), default: '8', about: 'repetitions of each simulation' },
});
const { repetitions } = options;
const header = benchHeader();
const startMs = systemClock.monotonicMs();

const cells = DELAYED_POLICIES.flatMap((policy) =>
  DELAYS_STEPS.map((delaySteps) => {
    const regrets = Array.from({ length: repetitions }, (_, seed) =>
      regretOf({ policy, delaySteps, stepCount: STEP_COUNT, seed }),
    );
    const mean = regrets.reduce((a, b) => a + b, 0) / regrets.length;
    process.stderr.write(`${policy}, feedback every ${delaySteps}: ${Math.round(mean)}\n`);
    return { policy, delaySteps, regrets };
  }),
);
const seconds = (systemClock.monotonicMs() - startMs) / 1000;
const record: DelayedRegrets = { ...header, stepCount: STEP_COUNT, repetitions, seconds, cells };
writeFileSync(`${RESULTS}bandit-delay.json`, `${JSON.stringify(record, null, 1)}\n`);
writeFileSync(`${RESULTS}bandit-delay.md`, banditDelayPage(record));
