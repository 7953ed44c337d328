/** `qianmo evaluate`: trains the global arm if need be, compares all arms, writes the reports. */

import { z } from 'zod';
import { planArms } from '../../../coordinator/evaluation/arm-plan.js';
import { demandEvaluable, evaluate } from '../../../coordinator/evaluation/evaluate.js';
import { globalArmConfig, withoutMethodNames } from '../../../coordinator/evaluation/global-arm.js';
import { demandPredictionsPath } from '../../../coordinator/evaluation/predictions.js';
import { fileOfSegment, REPORT_FILE } from '../../../coordinator/reports/report-files.js';
import { reportHtml } from '../../../coordinator/reports/evaluation/evaluation-page.js';
import { reportJson, reportsJson } from '../../../coordinator/reports/report-json.js';
import { reportTable } from '../../../coordinator/reports/evaluation/evaluation-table.js';
import { TEST_LOGITS_KEY } from '../../../coordinator/scoring/test-logits.js';
import type { EvaluationReport } from '../../../coordinator/scoring/evaluation-report.js';
import { loadRunConfig } from '../../../shared/config/load-run-config.js';
import { QianmoError } from '../../../shared/base/errors.js';
import type { MetaParameters } from '../../../shared/models/initial-values.js';
import { labelsOf } from '../../../shared/tasks/task-label.js';
import type { CommandContext } from '../command-context.js';
import { configReaderOf } from '../named-places.js';
import { parsedOptions } from '../usage-failure.js';
import { dispatchForRun, type RunDispatch } from '../dispatch-for-run.js';
import { interruptedAs } from '../interruption.js';
import {
  joinAddress,
  objectStoreOf,
  openPreparedRun,
  savedMetaParametersOf,
  specOf,
  storeAddressOf,
  type PreparedRun,
} from '../run-files.js';
import { trainRun } from './train.js';

const OptionsSchema = z.object({
  workers: z.number().optional(),
  inProcess: z.boolean().optional(),
  redis: z.string().optional(),
  predictions: z.string().min(1, 'expected a value').optional(),
  fresh: z.boolean().default(false),
  format: z.enum(['table', 'json']),
});

export async function evaluateVerb(
  path: string,
  rawOptions: unknown,
  context: CommandContext,
): Promise<void> {
  const options = parsedOptions(OptionsSchema, rawOptions, 'evaluate');
  const config = await loadRunConfig(path, configReaderOf(context.environment));
  if (options.predictions !== undefined) await demandPredictionsPath(options.predictions);
  const run = await openPreparedRun(config, context);
  const dispatch = await dispatchForRun(config, config.run, options, context);
  const reports = await evaluateRun(run, dispatch, options, context);
  context.print(
    options.format === 'json'
      ? reportsJson(reports)
      : reports.map((report) => reportTable(report, context.outputColumns)).join('\n\n\n'),
  );
}

export interface EvaluateRunOptions {
  readonly predictions?: string | undefined;
  readonly fresh: boolean;
}

/**
 * Evaluates the latest checkpoint, each segment for itself; the reports lie beside it in the run's
 * output.
 *
 * @throws QianmoError of kind `interrupted` that says which reports were written before.
 */
export async function evaluateRun(
  run: PreparedRun,
  dispatch: RunDispatch,
  options: EvaluateRunOptions,
  context: CommandContext,
): Promise<EvaluationReport[]> {
  const written: EvaluationReport[] = [];
  const evaluating = async (): Promise<void> => {
    for await (const report of writtenReports(run, dispatch, options, context))
      written.push(report);
  };
  await interruptedAs(evaluating(), () => ({
    what: `the evaluation was stopped; ${whatIsWritten(run, written)}`,
    where: run.config.output,
    cure: 'give the same command again; a global arm that was trained is kept',
  }));
  return written;
}

function whatIsWritten({ store }: PreparedRun, written: readonly EvaluationReport[]): string {
  if (written.length === 0) return 'no report was written';
  const segments = labelsOf(store.manifest).map(({ segment }) => segment);
  const done = segments.slice(0, written.length).join(', ');
  return `reports of these segments were written: ${done}; none of these: ${segments.slice(written.length).join(', ')}`;
}

/** The report of each segment, once all that belongs to it is written. */
async function* writtenReports(
  run: PreparedRun,
  dispatch: RunDispatch,
  options: EvaluateRunOptions,
  context: CommandContext,
): AsyncGenerator<EvaluationReport> {
  const { config, store, spec } = run;
  const meta = await trainedMetaParameters(run, context);
  // Before the global arm is trained for nothing.
  const plan = planArms({ config, store, meta, global: meta });
  for (const labelIndex of labelsOf(store.manifest).keys())
    await demandEvaluable({ config, store, labelIndex }, plan);
  const global = await globalMetaParameters(run, dispatch, options.fresh, context);
  const evaluation = {
    config,
    runId: config.run,
    store,
    storeAddress: storeAddressOf(config),
    spec,
    dispatcher: dispatch.dispatcher,
    meta,
    global,
    clock: context.clock,
    sink: context.sink,
    signal: context.signal,
  };
  const output = objectStoreOf(config, config.output);
  for (const [labelIndex, { segment }] of labelsOf(store.manifest).entries()) {
    const predictionsPath =
      options.predictions === undefined ? null : fileOfSegment(options.predictions, segment);
    const { report, testLogits } = await evaluate({
      ...evaluation,
      ...(segment === null ? {} : { labelIndex }),
      ...(predictionsPath === null ? {} : { predictionsPath }),
    });
    const json = fileOfSegment(REPORT_FILE, segment);
    const page = fileOfSegment('report.html', segment);
    await output.put(fileOfSegment(TEST_LOGITS_KEY, segment), testLogits, { kind: 'always' });
    await output.put(json, Buffer.from(reportJson(report)), { kind: 'always' });
    await output.put(page, Buffer.from(reportHtml(report)), { kind: 'always' });
    context.sink({ kind: 'report-written', address: joinAddress(config.output, page) });
    yield report;
  }
}

async function trainedMetaParameters(
  run: PreparedRun,
  context: CommandContext,
): Promise<MetaParameters> {
  const state = await savedMetaParametersOf(run, context);
  if (state === null)
    throw new QianmoError({
      kind: 'usage',
      what: 'there is nothing to evaluate: the run has no checkpoint',
      where: joinAddress(run.config.output, 'checkpoints'),
      cure: 'train it first: qianmo train run.yaml',
    });
  if (state.outerStep < run.config.training.outerSteps)
    context.sink({
      kind: 'unfinished-run-evaluated',
      outerStep: state.outerStep,
      outerSteps: run.config.training.outerSteps,
    });
  return state.metaParameters;
}

/** Null when no arm asks for it. Trained by the same loop, on the same workers. */
async function globalMetaParameters(
  run: PreparedRun,
  dispatch: RunDispatch,
  fresh: boolean,
  context: CommandContext,
): Promise<MetaParameters | null> {
  const needing = new Set(['global', 'global-shift', 'finetuned']);
  if (!run.config.evaluation.arms.some((arm) => needing.has(arm))) return null;
  const unrestricted = globalArmConfig(run.config);
  const spec = specOf(unrestricted, run.store);
  const globalRun = { ...run, config: withoutMethodNames(unrestricted, spec), spec };
  context.sink({ kind: 'global-arm-started' });
  const outcome = await trainRun(globalRun, dispatch, { resume: !fresh, fresh }, context);
  return outcome.state.metaParameters;
}
