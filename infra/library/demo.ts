/** The demo: prepares, trains, evaluates and searches on the data that ships with the package. */

import { writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { CallOptions } from '../../coordinator/runs/run-handle.js';
import type { EvaluationReport } from '../../coordinator/scoring/evaluation-report.js';
import type { SweepRecord } from '../../coordinator/sweep/sweep-record.js';
import type { ArmName } from '../../shared/config/arms.js';
import { RUN_CONFIG } from '../../shared/config/load-run-config.js';
import { loadConfig, yamlOf } from '../../shared/config/yaml-file.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { auto, evaluate, openRun, prepare } from './index.js';
import { packageRoot } from './package-root.js';
import type { CommandSurroundings } from './verb.js';

const DEMO_EXAMPLE = 'infra/examples/movielens.yaml';

/** Arms that are set beside what the search has chosen. */
const SHOWN_ARMS: readonly ArmName[] = ['global', 'global-shift', 'finetuned', 'meta-adapted'];

export async function runDemo(out: string, around: CommandSurroundings): Promise<void> {
  const { clock, options, print, show } = around;
  const startedMs = clock.monotonicMs();
  const config = await demoConfig(out);
  print('1. prepare: MovieLens ratings to tasks (a movie stands in for an adgroup)');
  const { storeDocument } = await import('../../coordinator/reports/store-document.js');
  show(storeDocument(await prepare({ config }, options)));

  print('\n2. train: on this machine, in as many processes as pay off');
  const run = await openRun({ config }, options);
  const measured: MeasuredModel[] = [];
  try {
    const { checkpoint, digest } = await run.train({ resume: true });
    print(`checkpoint ${checkpoint}\ndigest ${digest}`);

    print('\n3. evaluate: held-out movies, every arm tuned on the validation movies');
    const { evaluationDocument } = await import('../../coordinator/reports/evaluation-document.js');
    for (const report of await run.evaluate()) {
      show(evaluationDocument(report));
      measured.push(...SHOWN_ARMS.map((arm) => measuredArm(report, arm)));
    }
  } finally {
    await run.close();
  }
  print('\n4. auto: model, method and training chosen from data alone, on the validation movies');
  const { sweepDocument } = await import('../../coordinator/reports/sweep-document.js');
  const searched = await searchedModel(config, options);
  show(sweepDocument(searched.record));
  print(`\n${await comparisonOf([...measured, searched.measured])}`);
  const seconds = Math.round((clock.monotonicMs() - startedMs) / 1000);
  print(whereToLookNext(out, seconds));
}

/** On the same held-out movies, the best last. */
async function comparisonOf(models: readonly MeasuredModel[]): Promise<string> {
  const { textTable } = await import('../../coordinator/reports/document/as-text.js');
  const { columnsOf } = await import('../../coordinator/reports/document/document.js');
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

const TRIALS_MAX = 4;

/** The figures of a model on the held-out films. */
interface MeasuredModel {
  readonly name: string;
  readonly logloss: number;
  readonly auc: number | null;
}

interface SearchedModel {
  readonly record: SweepRecord;
  readonly measured: MeasuredModel;
}

/**
 * Prepares a store of its own from the same split, with what a search adds to the data, and searches with a fixed number of
 * trials: the choice does not depend on how fast the machine is.
 */
async function searchedModel(
  { run, seed, data, output }: RunConfig,
  options: CallOptions,
): Promise<SearchedModel> {
  const path = join(output, 'auto.yaml');
  const store = join(output, 'auto', 'store');
  const dataAlone = {
    run: `${run}-auto`,
    seed,
    data: { ...data, store },
    auto: { trialsMax: TRIALS_MAX },
  };
  await writeFile(path, yamlOf({ ...dataAlone, output }));
  // The search keeps its record in this folder; that of the demo's run is not to end with this call.
  await prepare({ config: { ...dataAlone, output: join(output, 'auto') } }, options);
  const record = await auto({ config: path, resume: true }, options);
  if (record.best === null) throw new Error('a finished search has a best trial');
  const config = await loadConfig(RUN_CONFIG, record.best.config);
  const served = servedArm(config);
  const arms: RunConfig['evaluation']['arms'] =
    served === 'global' ? ['global'] : ['meta-adapted', served];
  const evaluation = { ...config.evaluation, arms };
  const [report] = await evaluate({ config: { ...config, evaluation } }, options);
  if (report === undefined) throw new Error('an evaluation has a report');
  return { record, measured: measuredArm(report, served, 'auto') };
}

/** The arm that a bundle of the run serves. */
function servedArm({ method }: RunConfig): 'global' | 'meta-chosen' {
  return method.kind === 'global' ? 'global' : 'meta-chosen';
}

/** @param name shown in place of the arm's own */
function measuredArm(
  { slices: [all] }: EvaluationReport,
  arm: ArmName,
  name: string = arm,
): MeasuredModel {
  const found = all?.arms.find((each) => each.arm === arm);
  if (found === undefined) throw new Error(`the report has no arm ${arm}`);
  const { logloss, auc } = found.metrics;
  return { name, logloss, auc };
}

/**
 * The config of the MovieLens example, with its files found from any folder.
 *
 * @param out takes the task store, the checkpoints and the reports
 */
export async function demoConfig(out: string): Promise<RunConfig> {
  const config = await loadConfig(RUN_CONFIG, fileURLToPath(new URL(DEMO_EXAMPLE, packageRoot)));
  const logs = [config.data.logs].flat().map((log) => fileURLToPath(new URL(log, packageRoot)));
  const store = `${out.replace(/\/+$/, '')}/store`;
  return { ...config, output: out, data: { ...config.data, logs, store } };
}
