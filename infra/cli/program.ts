/**
 * The verbs of the `qianmo` command. Each is declared in `verbs/`, and loaded when the command line names
 * it: what the others need would take longer to load than some verbs take to run.
 */

import { Command } from 'commander';
import { commanderProgram } from './command/commander-program.js';
import type { ParsedVerb, Verb } from './command/verb.js';

/** In the order of the help. */
const VERBS: readonly (readonly [name: string, load: () => Promise<Verb>])[] = [
  ['synthesize', async () => (await import('./verbs/synthesize.js')).synthesizeVerb],
  ['prepare', async () => (await import('./verbs/prepare.js')).prepareVerb],
  ['train', async () => (await import('./verbs/train.js')).trainVerb],
  ['evaluate', async () => (await import('./verbs/evaluate.js')).evaluateVerb],
  ['export', async () => (await import('./verbs/export.js')).exportVerb],
  ['refresh', async () => (await import('./verbs/refresh.js')).refreshVerb],
  ['bundle', async () => (await import('./verbs/bundle.js')).bundleVerb],
  ['serve', async () => (await import('./verbs/serve.js')).serveVerb],
  ['demo', async () => (await import('./verbs/demo.js')).demoVerb],
  ['demo-serve', async () => (await import('./verbs/demo-serve.js')).demoServeVerb],
  ['compare', async () => (await import('./verbs/compare.js')).compareVerb],
  ['sweep', async () => (await import('./verbs/sweep.js')).sweepVerb],
  ['auto', async () => (await import('./verbs/auto.js')).autoVerb],
  ['plan', async () => (await import('./verbs/plan.js')).planVerb],
  ['ope', async () => (await import('./verbs/ope.js')).opeVerb],
  ['setup', async () => (await import('./verbs/setup.js')).setupVerb],
  ['worker', async () => (await import('./verbs/worker.js')).workerVerb],
  ['runs', async () => (await import('./verbs/record/runs.js')).runsVerb],
  ['status', async () => (await import('./verbs/record/status.js')).statusVerb],
  ['logs', async () => (await import('./verbs/record/logs.js')).logsVerb],
  ['wait', async () => (await import('./verbs/record/status.js')).waitVerb],
  ['workers', async () => (await import('./verbs/record/workers.js')).workersVerb],
  ['pause', async () => (await import('./verbs/control.js')).pauseVerb],
  ['resume', async () => (await import('./verbs/control.js')).resumeVerb],
  ['cancel', async () => (await import('./verbs/control.js')).cancelVerb],
  ['extend', async () => (await import('./verbs/control.js')).extendVerb],
  ['dashboard', async () => (await import('./verbs/dashboard.js')).dashboardVerb],
  ['check', async () => (await import('./verbs/check.js')).checkVerb],
  ['simulate', async () => (await import('./verbs/simulate.js')).simulateVerb],
  ['completion', async () => (await import('./verbs/completion.js')).completionVerb(loadAll)],
  ['version', async () => (await import('./verbs/version.js')).versionVerb],
];

const loadAll = (): Promise<Verb[]> => Promise.all(VERBS.map(([, load]) => load()));

/**
 * @param words the command line. A first word that names a verb gives a program of this verb alone; any
 *   other gives all of them, for the help or a suggestion.
 * @param carryOut given the verb that the command line names, with its options read
 */
export async function buildProgram(
  words: readonly string[],
  carryOut: (parsed: ParsedVerb) => Promise<void>,
): Promise<Command> {
  const named = VERBS.filter(([name]) => name === words[0]);
  const verbs =
    named.length === 0 ? await loadAll() : await Promise.all(named.map(([, load]) => load()));
  const program = new Command('qianmo')
    .description('Meta-training for advertising: one shared trunk, a personal model per adgroup.')
    .helpCommand(false)
    .addHelpText(
      'after',
      `
Example, from logs to an evaluated model:
  qianmo prepare run.yaml
  qianmo train run.yaml
  qianmo evaluate run.yaml

Exit codes: 0 done, 1 failed, 2 bad usage or config, 3 environment missing, 4 interrupted and resumable,
5 cancelled and resumable.`,
    );
  return commanderProgram(program, verbs, carryOut);
}
