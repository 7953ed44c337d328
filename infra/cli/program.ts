/** The verbs of the `qianmo` command. Each is declared in `verbs/`. */

import { Command } from 'commander';
import { commanderProgram } from './command/commander-program.js';
import type { ParsedVerb } from './command/verb.js';
import { cancelVerb, extendVerb, pauseVerb, resumeVerb } from './verbs/control.js';
import { checkVerb } from './verbs/check.js';
import { compareVerb } from './verbs/compare.js';
import { dashboardVerb } from './verbs/dashboard.js';
import { demoVerb } from './verbs/demo.js';
import { evaluateVerb } from './verbs/evaluate.js';
import { planVerb } from './verbs/plan.js';
import { prepareVerb } from './verbs/prepare.js';
import { setupVerb } from './verbs/setup.js';
import { simulateVerb } from './verbs/simulate.js';
import { streamVerb } from './verbs/stream.js';
import { sweepVerb } from './verbs/sweep.js';
import { synthesizeVerb } from './verbs/synthesize.js';
import { trainVerb } from './verbs/train.js';
import { versionVerb } from './verbs/version.js';
import { workerVerb } from './verbs/worker.js';

/** In the order of the help. */
const VERBS = [
  synthesizeVerb,
  prepareVerb,
  trainVerb,
  evaluateVerb,
  streamVerb,
  demoVerb,
  compareVerb,
  sweepVerb,
  planVerb,
  setupVerb,
  workerVerb,
  pauseVerb,
  resumeVerb,
  cancelVerb,
  extendVerb,
  dashboardVerb,
  checkVerb,
  simulateVerb,
  versionVerb,
];

/** @param carryOut given the verb that the command line names, with its options read */
export function buildProgram(carryOut: (parsed: ParsedVerb) => Promise<void>): Command {
  const program = new Command('qianmo')
    .description('Meta-training for advertising: one shared trunk, a personal model per adgroup.')
    .helpCommand(false)
    .addHelpText(
      'after',
      `
Example, from logs to an evaluated model:
  qianmo prepare run.yaml
  qianmo train run.yaml --workers 2
  qianmo evaluate run.yaml

Exit codes: 0 done, 1 failed, 2 bad usage or config, 3 environment missing, 4 interrupted and resumable.`,
    );
  return commanderProgram(program, VERBS, carryOut);
}
