/** `qianmo demo`: prepares, trains and evaluates on the data that ships with the package. */

import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { interruptedAs } from '../../../coordinator/runs/call/interruption.js';
import { demoConfig, DEMO_EXAMPLE, DEMO_OUT_DEFAULT } from '../../library/demo/demo-config.js';
import { recordedPeers } from '../../library/demo/recorded-peers.js';
import {
  measuredArm,
  searchedModel,
  type MeasuredModel,
} from '../../library/demo/searched-model.js';
import { openRun, prepare } from '../../library/index.js';
import type { ArmName } from '../../../shared/config/arms.js';
import { packageRoot } from '../../library/package-root.js';
import { callOptionsOf, type CommandContext } from '../command/command-context.js';
import { storeLines } from '../command/store-lines.js';
import { textValue, valueOption, verb } from '../command/verb.js';
import { printDocument } from '../command/print-document.js';

/** Arms that are set beside what the search has chosen. */
const SHOWN_ARMS: readonly ArmName[] = ['global', 'global-shift', 'finetuned', 'meta-adapted'];

export const demoVerb = verb({
  name: 'demo',
  description: 'prepare, train, evaluate and search on the MovieLens example',
  options: {
    out: valueOption('--out <folder>', 'folder for everything the demo makes', textValue, {
      defaultText: DEMO_OUT_DEFAULT,
    }),
  },
  help: '\nExample:\n  qianmo demo --out runs/demo',
  run: (_operands, { out }, context) =>
    interruptedAs(runDemo(out, context), () => ({
      what: 'the demo was stopped',
      where: out,
      cure: 'run the same command again: it continues from the last checkpoint',
    })),
});

async function runDemo(out: string, context: CommandContext): Promise<void> {
  const options = callOptionsOf(context);
  const startedMs = context.clock.monotonicMs();
  const config = await demoConfig(out);
  context.print('1. prepare: MovieLens ratings to tasks (a movie stands in for an adgroup)');
  context.print(storeLines(await prepare({ config }, options)));

  context.print('\n2. train: on this machine, in as many processes as pay off');
  const run = await openRun({ config }, options);
  const measured: MeasuredModel[] = [];
  try {
    const { checkpoint, digest } = await run.train({ resume: true });
    context.print(`checkpoint ${checkpoint}\ndigest ${digest}`);

    context.print('\n3. evaluate: held-out movies, every arm tuned on the validation movies');
    const { evaluationDocument } =
      await import('../../../coordinator/reports/evaluation-document.js');
    for (const report of await run.evaluate()) {
      printDocument(evaluationDocument(report), 'table', context);
      measured.push(...SHOWN_ARMS.map((arm) => measuredArm(report, arm)));
    }
  } finally {
    await run.close();
  }
  context.print(
    '\n4. auto: model, method and training chosen from data alone, on the validation movies',
  );
  const { sweepDocument } = await import('../../../coordinator/reports/sweep-document.js');
  const searched = await searchedModel(config, options);
  printDocument(sweepDocument(searched.record), 'table', context);
  const models = [...measured, searched.measured, ...(await recordedPeers())];
  context.print(`\n${await besideEachOther(models)}`);
  context.print(
    'Peers are programs in Python on the same division, as infra/results/real.md recorded them.',
  );
  const seconds = Math.round((context.clock.monotonicMs() - startedMs) / 1000);
  context.print(whereToLookNext(out, seconds));
}

/** On the same held-out movies, the best last. */
async function besideEachOther(models: readonly MeasuredModel[]): Promise<string> {
  const { textTable } = await import('../../../coordinator/reports/document/as-text.js');
  const { columnsOf } = await import('../../../coordinator/reports/document/document.js');
  const rows = [...models]
    .sort((a, b) => b.logloss - a.logloss)
    .map(({ name, logloss, auc }) => [name, logloss.toFixed(4), auc?.toFixed(4) ?? '-']);
  return textTable({ columns: columnsOf('<held-out movies', 'logloss', 'AUC'), rows });
}

function whereToLookNext(out: string, seconds: number): string {
  return `
Done in ${seconds} s. Where to look next:
  ${out.replace(/\/+$/, '')}/report.html   the same with plots
  ${out.replace(/\/+$/, '')}/auto/auto.html   what the search tried, and why it chose
  ${shown(DEMO_EXAMPLE)}   the run's config, every field explained
  ${shown('infra/examples/synthetic.yaml')}   a log of your own size: qianmo synthesize, prepare, train, evaluate
  ${shown('README.md')}                       the verbs, and how to bring your own logs`;
}

/** The path of a file of the package, relative to the current folder. */
function shown(file: string): string {
  return relative(process.cwd(), fileURLToPath(new URL(file, packageRoot)));
}
