/** Evaluates a trained run: trains the global arm if needed, compares all arms, writes the reports. */

import { joinAddress } from '../../shared/storage/object-store.js';
import { at } from '../../shared/base/arrays.js';
import { isRecord } from '../../shared/base/canonical-json.js';
import { errorOf } from '../../shared/base/errors.js';
import { configHash, type RunConfig } from '../../shared/config/run-config.js';
import type { MetaParameters } from '../../shared/models/meta-parameters.js';
import { labelsOf } from '../../shared/tasks/task-label.js';
import {
  type CheckpointManifest,
  latestManifestOf,
  outerStepsOf,
} from '../checkpoints/checkpoint-manifest.js';
import { requirePredictionsPath } from '../evaluation/predictions.js';
import type { PreparedRun } from '../plan/prepared-run.js';
import { planArms } from '../evaluation/arms.js';
import { evaluate, requireHeldOutAdgroups } from '../evaluation/evaluate.js';
import { GLOBAL_ARMS } from '../../shared/config/arms.js';
import { isNamed, type ModelSpec } from '../../shared/models/model-spec.js';
import { asPage } from '../reports/document/as-page.js';
import { evaluationDocument } from '../reports/evaluation-document.js';
import {
  CROWD_BLOCKS_FILE,
  fileOfSegment,
  REPORT_FILE,
  reportJson,
  type EvaluationReport,
} from '../scoring/evaluation-report.js';
import { TEST_LOGITS_KEY } from '../scoring/test-logits.js';
import { chosenConfigOf } from './places.js';
import { openWithDispatch, type RunDispatch } from './dispatch-for-run.js';
import {
  interruptedAs,
  openRunContext,
  startRun,
  type CallOptions,
  type RunHandle,
  type Surroundings,
} from './run-handle.js';
import { loggedRun, trackedCallOf, failedEvent, loggedSink } from './logged-run.js';
import {
  type RequestOf,
  checkedRequest,
  type EvaluationChoice,
  type TrainingStart,
  REQUESTS,
} from './requests.js';
import type { RunContext } from './run-context.js';
import {
  checkpointAddressOf,
  objectStoreOf,
  openPreparedRun,
  savedMetaParametersOf,
  specOf,
} from './run-files.js';
import { trainOn, trainedRun, type TrainingResult } from './train-run.js';
import {
  noticeEvent,
  warningEvent,
  runEventSink,
  sinksTogether,
  type RunEventSink,
} from '../../shared/events/run-events.js';
import { failureOfSystemError } from '../../shared/base/system-errors.js';

type SavedForStore = NonNullable<Awaited<ReturnType<typeof savedMetaParametersOf>>>;

/** @returns a report for each segment, or a single report if tasks have no segments */
export async function evaluateRun(
  request: RequestOf<'evaluate'> & Pick<EvaluationSettings, 'hasImportance'>,
  context: RunContext,
): Promise<readonly EvaluationReport[]> {
  const config = await chosenConfigOf(request.config, context.environment);
  if (request.predictions !== undefined) await requirePredictionsPath(request.predictions);
  return loggedRun(trackedCallOf('evaluate', config), context, async (logged) => {
    const [run, dispatch] = await openWithDispatch(config, request, logged, () =>
      openPreparedRun(config, logged),
    );
    return evaluatedRun(run, dispatch, request, logged);
  });
}

interface EvaluationSettings {
  readonly predictions?: string | undefined;
  readonly fresh: boolean;
  /** True by default. */
  readonly hasImportance?: boolean;
}

/**
 * Evaluates the latest checkpoint, segment by segment, and writes the reports to the run's output.
 *
 * @throws QianmoError of kind `interrupted` that lists the reports already written.
 */
export async function evaluatedRun(
  run: PreparedRun,
  dispatch: RunDispatch,
  options: EvaluationSettings,
  context: RunContext,
): Promise<EvaluationReport[]> {
  const written: EvaluationReport[] = [];
  const evaluating = async (): Promise<void> => {
    for await (const report of writtenReports(run, dispatch, options, context))
      written.push(report);
  };
  await interruptedAs(evaluating(), () => ({
    what: `the evaluation was stopped; ${whatIsWritten(run, written)}`,
    where: run.config.output,
    cure: 'run the same command again; a trained global arm is kept',
  }));
  return written;
}

function whatIsWritten({ store }: PreparedRun, written: readonly EvaluationReport[]): string {
  if (written.length === 0) return 'no report was written';
  const segments = labelsOf(store.manifest).map(({ segment }) => segment);
  const done = segments.slice(0, written.length).join(', ');
  return `reports of these segments were written: ${done}; none of these: ${segments.slice(written.length).join(', ')}`;
}

/** Yields the report of each segment once its files are written. */
async function* writtenReports(
  run: PreparedRun,
  dispatch: RunDispatch,
  options: EvaluationSettings,
  context: RunContext,
): AsyncGenerator<EvaluationReport> {
  const { config, store } = run;
  const { metaParameters: meta, outerStep, outerSteps } = await trainedMetaParameters(run, context);
  // A refusal must come before the global arm is trained in vain.
  const plan = planArms(run, { meta, global: meta });
  for (const labelIndex of labelsOf(store.manifest).keys())
    requireHeldOutAdgroups({ config, store, labelIndex }, plan);
  // It may have more outer steps than the config says.
  const globalArm = { run, outerSteps: config.globalTraining.outerSteps ?? outerSteps };
  const isOwnGlobalArm = configHash(globalArmConfig(config)) === configHash(config);
  const global =
    isOwnGlobalArm && globalArm.outerSteps === outerSteps
      ? meta
      : await globalMetaParameters(globalArm, dispatch, options.fresh, context);
  const { hasImportance = true } = options;
  const evaluation = {
    ...{ run, dispatcher: dispatch.dispatcher, trained: { meta, global } },
    ...{ caller: context, hasImportance },
  };
  const output = objectStoreOf(config, config.output, context);
  for (const [labelIndex, { segment }] of labelsOf(store.manifest).entries()) {
    const predictionsPath =
      options.predictions === undefined ? null : fileOfSegment(options.predictions, segment);
    const { report, testLogits, crowdBlocks } = await evaluate({
      ...evaluation,
      ...(segment === null ? {} : { labelIndex }),
      ...(predictionsPath === null ? {} : { predictionsPath }),
    });
    const json = fileOfSegment(REPORT_FILE, segment);
    const page = fileOfSegment('report.html', segment);
    await output.put(fileOfSegment(TEST_LOGITS_KEY, segment), testLogits, { kind: 'always' });
    if (crowdBlocks !== null) await output.put(CROWD_BLOCKS_FILE, crowdBlocks, { kind: 'always' });
    await output.put(json, Buffer.from(reportJson(report)), { kind: 'always' });
    await output.put(page, Buffer.from(asPage(evaluationDocument(report))), { kind: 'always' });
    for (const { arm, metrics } of at(report.slices, 0).arms)
      context.sink({
        ...{ kind: 'arm-evaluated', arm, segment, outerStep, loss: metrics.logloss },
        ...{ lossPerAdgroup: metrics.loglossPerAdgroup.value, auc: metrics.auc },
        calibration: metrics.calibration,
      });
    context.sink({ kind: 'report-written', address: joinAddress(config.output, page) });
    yield report;
  }
}

async function trainedMetaParameters(
  run: PreparedRun,
  context: RunContext,
): Promise<SavedForStore> {
  const state = await savedMetaParametersOf(run, context);
  if (state === null)
    throw errorOf('usage', 'the run has no checkpoint to evaluate', {
      where: checkpointAddressOf(run.config),
      cure: 'train it first: qianmo train run.yaml',
    });
  const { isChosen, outerStep, outerSteps } = state;
  if (!isChosen && outerStep < outerSteps)
    context.sink(
      warningEvent(
        'unfinished-run-evaluated',
        `the run stopped at outer step ${outerStep} of ${outerSteps}; its last checkpoint is evaluated`,
      ),
    );
  return state;
}

interface GlobalArm {
  readonly run: PreparedRun;
  readonly outerSteps: number;
}

/** Trained by the same loop on the same workers; null if no arm needs it. */
async function globalMetaParameters(
  { run, outerSteps }: GlobalArm,
  dispatch: RunDispatch,
  fresh: boolean,
  context: RunContext,
): Promise<MetaParameters | null> {
  const { arms } = run.config.evaluation;
  if (!GLOBAL_ARMS.some((arm) => arms.includes(arm))) return null;
  const unrestricted = globalArmConfig(run.config);
  const spec = specOf(unrestricted, run.store);
  const arm = withoutMethodNames(unrestricted, spec);
  context.sink(
    noticeEvent('global-arm-started', 'global arm: one model on all rows, the same system'),
  );
  const { config, choice } = await globalStartOf(arm, outerSteps, fresh);
  const outcome = await trainOn({ ...run, config, spec }, dispatch, choice, context);
  return outcome.metaParameters;
}

interface GlobalStart {
  readonly config: RunConfig;
  readonly choice: Parameters<typeof trainOn>[2];
}

/**
 * Continues an earlier training of the arm under the config that it was begun with. Where it has more outer steps already, or
 * other ones with another length, it is trained anew.
 */
async function globalStartOf(
  config: RunConfig,
  outerSteps: number,
  isAnew: boolean,
): Promise<GlobalStart> {
  const checkpoints = objectStoreOf(config, checkpointAddressOf(config));
  const latest = isAnew ? null : await latestManifestOf(checkpoints);
  const begun = latest === null ? null : configBegunWith(latest, config);
  const isLonger = begun !== null && latest !== null && latest.outerStep > outerSteps;
  const { schedule, staleness } = config.training;
  const hasOtherSteps =
    begun !== null &&
    begun.training.outerSteps !== config.training.outerSteps &&
    (schedule.decay !== 'none' || staleness !== undefined);
  const fresh = isAnew || isLonger || hasOtherSteps;
  const trained = fresh || begun === null ? config : begun;
  const length = outerStepsOf(fresh ? {} : (latest ?? {}), trained.training);
  const extension = length === outerSteps ? {} : { extendTo: outerSteps };
  return { config: trained, choice: { resume: !fresh, fresh, ...extension } };
}

/** The config with the `training.outerSteps` of the checkpoint; null if that differs in anything else. */
function configBegunWith(latest: CheckpointManifest, config: RunConfig): RunConfig | null {
  const { training } = latest.decidingConfig;
  const outerSteps = isRecord(training) ? training['outerSteps'] : undefined;
  if (typeof outerSteps !== 'number') return null;
  const begun = { ...config, training: { ...config.training, outerSteps } };
  return configHash(begun) === latest.configHash ? begun : null;
}

/** The config that trains the global arm: the same data, model, seed and budget, except where `globalTraining` says otherwise. */
export function globalArmConfig(config: RunConfig): RunConfig {
  const { optimizer, outerSteps } = config.globalTraining;
  return {
    ...config,
    run: globalRunName(config.run),
    method: { kind: 'global' },
    training: {
      ...config.training,
      ...(optimizer === undefined ? {} : { optimizer }),
      ...(outerSteps === undefined ? {} : { outerSteps }),
    },
    output: joinAddress(config.output, 'global'),
  };
}

/**
 * Removes from `training.trainable` the names that only the run's method has. If nothing else is
 * trainable, the arm is what the run starts from.
 *
 * @param spec the model spec of the global arm
 */
function withoutMethodNames(
  config: RunConfig,
  { variables, tables }: Pick<ModelSpec, 'variables' | 'tables'>,
): RunConfig {
  const { trainable } = config.training;
  if (trainable === undefined) return config;
  const known = trainable.filter((named) =>
    [...variables, ...tables].some(({ name }) => isNamed(name, named)),
  );
  return { ...config, training: { ...config.training, trainable: known } };
}

/** Run names have at most 63 characters. */
function globalRunName(run: string): string {
  const suffix = '-global';
  return `${run.slice(0, 63 - suffix.length)}${suffix}`;
}

/** The environment is that of the open run. */
type OpenRunCallOptions = Omit<CallOptions, 'environment'>;

export interface OpenRun {
  readonly config: RunConfig;
  /** Like `train`; one call at a time. */
  train(start?: TrainingStart, options?: OpenRunCallOptions): RunHandle<TrainingResult>;
  /** Like `evaluate`; one call at a time. */
  evaluate(
    choice?: EvaluationChoice,
    options?: OpenRunCallOptions,
  ): RunHandle<readonly EvaluationReport[]>;
  /** Interrupts the call under way, waits for its end, and stops everything that the run started. */
  close(): Promise<void>;
}

/** Resolves when the store and the workers are ready. If it rejects, nothing is left running. */
export async function openRun(
  request: RequestOf<'open'>,
  surroundings: Surroundings,
  { signal, onEvent }: CallOptions,
): Promise<OpenRun> {
  const { clock } = surroundings;
  const listeners = new Set<RunEventSink>();
  if (onEvent !== undefined) listeners.add(runEventSink({ clock }, onEvent));
  const tellAll: RunEventSink = (...event) => sinksTogether(...listeners)(...event);
  const closing = new AbortController();
  const stopping = AbortSignal.any([closing.signal, ...(signal === undefined ? [] : [signal])]);
  const opened = openRunContext(surroundings, stopping, tellAll);
  try {
    opened.context.signal.throwIfAborted();
    const config = await chosenConfigOf(request.config, surroundings.environment);
    // One log for all calls: workers report when they start, which is before the first call.
    const logged = await loggedSink(trackedCallOf('open run', config), opened.context);
    const named = { ...opened.context, sink: logged };
    const [run, dispatch] = await openWithDispatch(config, request, named, () =>
      openPreparedRun(config, named),
    );
    const turns = turnsOf(config, surroundings, { stopping, listeners, logged });
    return {
      config,
      train: (start = {}, options = {}) =>
        turns.call(options, (context) => {
          const request = checkedRequest(REQUESTS.trainingStart, start, 'train');
          return trainedRun(run, dispatch, request, context);
        }),
      evaluate: (choice = {}, options = {}) =>
        turns.call(options, async (context) => {
          const settings = checkedRequest(REQUESTS.evaluationChoice, choice, 'evaluate');
          if (settings.predictions !== undefined)
            await requirePredictionsPath(settings.predictions);
          return evaluatedRun(run, dispatch, settings, context);
        }),
      close: async () => {
        closing.abort();
        await turns.underWay();
        await opened.close();
      },
    };
  } catch (error) {
    await opened.close().catch(() => undefined);
    throw failureOfSystemError(error) ?? error;
  }
}

interface SharedByCalls {
  readonly stopping: AbortSignal;
  readonly listeners: Set<RunEventSink>;
  readonly logged: RunEventSink;
}

/** The calls of an open run, one at a time. A call receives the events of the workers too. */
function turnsOf(
  config: RunConfig,
  surroundings: Surroundings,
  { stopping, listeners, logged }: SharedByCalls,
) {
  /** Resolves when the call under way has ended; null between calls. */
  let underWay: Promise<void> | null = null;
  const call = <Result>(
    { signal: stop, onEvent: tell }: OpenRunCallOptions,
    work: (context: RunContext) => Promise<Result>,
  ): RunHandle<Result> => {
    const signals = stop === undefined ? [stopping] : [stopping, stop];
    const options = { onEvent: tell, signal: AbortSignal.any(signals) };
    return startRun(surroundings, options, async (context) => {
      if (underWay !== null)
        throw errorOf('usage', 'the open run has a call under way', {
          ...{ where: `run ${config.run}`, cure: 'await the call before the next one' },
        });
      let settle = (): void => undefined;
      underWay = new Promise((resolve) => (settle = resolve));
      listeners.add(context.sink);
      try {
        return await work({ ...context, sink: logged });
      } catch (error) {
        const failure = failureOfSystemError(error) ?? error;
        logged(failedEvent(failure));
        throw failure;
      } finally {
        listeners.delete(context.sink);
        underWay = null;
        settle();
      }
    });
  };
  return { call, underWay: () => underWay };
}
