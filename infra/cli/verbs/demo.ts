/** `qianmo demo`: the whole job on the data that ships with the repository. */

import { z } from 'zod';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { reportTable } from '../../../coordinator/reports/evaluation/evaluation-table.js';
import { loadRunConfig } from '../../../shared/config/load-run-config.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import type { CommandContext } from '../command-context.js';
import { parsedOptions } from '../usage-failure.js';
import { dispatchForRun } from '../dispatch-for-run.js';
import { interruptedAs } from '../interruption.js';
import { packageRoot } from '../package-root.js';
import { joinAddress, openPreparedRun } from '../run-files.js';
import { evaluateRun } from './evaluate.js';
import { describeStore, prepareRun } from './prepare.js';
import { trainRun } from './train.js';

const OptionsSchema = z.object({ out: z.string().min(1, 'expected a value') });
const DEMO_WORKER_COUNT = 2;

export async function demoVerb(rawOptions: unknown, context: CommandContext): Promise<void> {
  const { out } = parsedOptions(OptionsSchema, rawOptions, 'demo');
  await interruptedAs(runDemo(out, context), () => ({
    what: 'the demo was stopped',
    where: out,
    cure: 'give the same command again: it goes on from the last checkpoint',
  }));
}

async function runDemo(out: string, context: CommandContext): Promise<void> {
  const startedMs = context.clock.monotonicMs();
  const config = await demoConfig(out);
  context.print('1. prepare: MovieLens ratings to tasks (a movie stands in for an adgroup)');
  context.print(describeStore(config, await prepareRun(config, false, context)));

  context.print(`\n2. train: ${DEMO_WORKER_COUNT} workers on an embedded Redis`);
  const run = await openPreparedRun(config, context);
  const dispatch = await dispatchForRun(
    config,
    config.run,
    { workers: DEMO_WORKER_COUNT },
    context,
  );
  const outcome = await trainRun(run, dispatch, { resume: true, fresh: false }, context);
  context.print(`checkpoint ${outcome.address}\ndigest ${outcome.digest}`);

  context.print('\n3. evaluate: held-out movies, every arm tuned on the validation movies');
  const reports = await evaluateRun(run, dispatch, { fresh: false }, context);
  for (const report of reports) context.print(reportTable(report, context.outputColumns));

  const seconds = Math.round((context.clock.monotonicMs() - startedMs) / 1000);
  context.print(`
Done in ${seconds} s. Where to look next:
  ${joinAddress(config.output, 'report.html')}   the same with plots
  ${shown('infra/examples/movielens.yaml')}   the run's config, every field explained
  ${shown('infra/examples/synthetic.yaml')}   a log of your own size: qianmo synthesize, prepare, train, evaluate
  ${shown('README.md')}                       the verbs, and how to bring your own logs`);
}

/** A file of the package as it is reached from the current folder. */
function shown(file: string): string {
  return relative(process.cwd(), fileURLToPath(new URL(file, packageRoot)));
}

/** The example's config, its files found from anywhere and its output where it was asked for. */
async function demoConfig(out: string): Promise<RunConfig> {
  const config = await loadRunConfig(
    fileURLToPath(new URL('infra/examples/movielens.yaml', packageRoot)),
  );
  const logs = [config.data.logs].flat().map((log) => fileURLToPath(new URL(log, packageRoot)));
  return {
    ...config,
    output: out,
    data: { ...config.data, logs, store: joinAddress(out, 'tasks') },
  };
}
