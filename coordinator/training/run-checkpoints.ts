/** The start of a run, its checkpoints, and its state when it stops early. */

import { isInterruption, QianmoError, errorOf } from '../../shared/base/errors.js';
import { initialMetaParameters, type MetaParameters } from '../../shared/models/meta-parameters.js';
import type { CheckpointReceipt } from '../checkpoints/checkpoint-reader.js';
import type { StepTimes } from './step-report.js';
import { metaOptimizerOf, type GradientTransformation } from './meta-optimizer.js';
import { runTables, type RunTables } from './run-tables.js';
import type { StartFrom, TrainOptions } from './train-options.js';
import { outerStepsOf, type TrainingState } from '../checkpoints/checkpoint-manifest.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import {
  layoutDifferences,
  type EmbeddingTable,
  type DenseTensor,
} from '../../shared/tensors/named-tensors.js';
import { spreadOver } from '../../shared/base/arrays.js';
import { labelsOf } from '../../shared/tasks/task-label.js';
import type { PreparedRun } from '../plan/prepared-run.js';
import { clickRateOf } from '../scoring/held-out-rows.js';

interface StartedTraining {
  readonly state: TrainingState;
  readonly tables: RunTables;
}

/**
 * Starts from the latest checkpoint when resuming, else at outer step 0 from the seed or from another run.
 *
 * @throws QianmoError `usage` when a checkpoint exists and neither `resume` nor `fresh` is set.
 */
export async function startedTraining(
  options: Pick<TrainOptions, 'run' | 'checkpoints' | 'start'>,
): Promise<StartedTraining> {
  const state = await startingState(options);
  const { spec, config } = options.run;
  return { state, tables: runTables(state, spec, config.training) };
}

async function startingState({
  run,
  checkpoints,
  start,
}: Pick<TrainOptions, 'run' | 'checkpoints' | 'start'>): Promise<TrainingState> {
  const { config, spec } = run;
  const found = start.fresh === true ? null : await checkpoints.latest();
  const extension = start.extendTo === undefined ? {} : { extendedOuterSteps: start.extendTo };
  if (found !== null && start.resume) return { ...found, ...extension };
  const outerSteps = outerStepsOf(found ?? {}, config.training);
  if (found !== null)
    throw new QianmoError({
      kind: 'usage',
      what:
        found.outerStep < outerSteps
          ? 'this output already has a checkpoint'
          : 'this output has a finished run',
      where: config.output,
      found: `a checkpoint of outer step ${found.outerStep} of ${outerSteps}`,
      cure: 'give --resume to continue from it, --fresh to start again, or name another output',
    });
  const { seed, training } = config;
  const { startFrom } = start;
  const optimizer = metaOptimizerOf(training, spec.variables);
  if (startFrom !== undefined)
    return { ...stateFrom(startFrom, spec, seed, optimizer), ...extension };
  const metaParameters = initialMetaParameters(spec, seed);
  const initial = optimizer.init(metaParameters);
  const state = { outerStep: 0, metaParameters, optimizer: initial, computedOn: [] };
  return { ...(await withBiasStart(state, run)), ...extension };
}

/** Writes the checkpoints of one training while it goes on, one at a time. */
export function checkpointWriter(
  { checkpoints, caller }: Pick<TrainOptions, 'checkpoints' | 'caller'>,
  start: Pick<TrainingState, 'outerStep'>,
  tables: Pick<RunTables, 'snapshot'>,
  times: Pick<StepTimes, 'during'>,
) {
  let durableOuterStep = start.outerStep;
  let last: CheckpointReceipt | null = null;
  let underWay: Promise<void> = Promise.resolve();
  let failure: { readonly error: unknown } | null = null;

  const store = async (state: TrainingState): Promise<CheckpointReceipt> => {
    const { outerStep } = state;
    const receipt = await checkpoints.write(state, tables.snapshot());
    last = receipt;
    if (outerStep > durableOuterStep) caller.sink({ kind: 'checkpoint', outerStep, ...receipt });
    durableOuterStep = outerStep;
    return receipt;
  };
  /** @throws the failure of a checkpoint that was begun. */
  const assertNoFailure = (): void => {
    if (failure === null) return;
    const { error } = failure;
    failure = null;
    throw error;
  };
  return {
    assertNoFailure,
    /** Takes a snapshot of the state once the checkpoint before is written, and begins to write it. */
    async begin(state: TrainingState): Promise<void> {
      await times.during('checkpoint', () => underWay);
      assertNoFailure();
      underWay = store(state).then(
        () => undefined,
        (error: unknown) => {
          failure = { error };
        },
      );
    },
    /** Writes the state, unless it was written last. */
    async write(state: TrainingState): Promise<CheckpointReceipt> {
      await underWay;
      // This checkpoint is newer than one that failed.
      failure = null;
      return last !== null && durableOuterStep === state.outerStep ? last : store(state);
    },
    settled: () => underWay,
    /** The outer step from which a resume would continue. */
    get durableOuterStep() {
      return durableOuterStep;
    },
  };
}

/** The last complete outer step of a run that stops, and whether a resume could begin there. */
interface StoppedAt {
  readonly state: TrainingState;
  readonly isResumable: boolean;
}

/**
 * Writes the last complete outer step if a resume could begin there, then returns the error to throw: for an interruption, one with
 * the command that continues, else the failure itself. After a bug nothing is written.
 */
export async function resumableFailure(
  error: unknown,
  { state, isResumable }: StoppedAt,
  { run: { config }, caller }: Pick<TrainOptions, 'run' | 'caller'>,
  checkpoints: ReturnType<typeof checkpointWriter>,
): Promise<unknown> {
  if (!(error instanceof QianmoError)) return error;
  await checkpoints.settled();
  if (isResumable && checkpoints.durableOuterStep !== state.outerStep) {
    try {
      await checkpoints.write(state);
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      if (!isSameFailure(cause, error))
        caller.sink({ kind: 'checkpoint-not-written', outerStep: state.outerStep, reason });
    }
  }
  if (!isInterruption(error)) return error;
  const durable = checkpoints.durableOuterStep;
  return new QianmoError({
    kind: error.kind,
    what: `${error.kind === 'cancelled' ? 'the run was cancelled' : 'training was stopped'}; outer step ${durable} of ${outerStepsOf(state, config.training)} is safe`,
    where: config.output,
    cure:
      durable > 0
        ? 'continue with `qianmo train run.yaml --resume` (the same run config)'
        : 'nothing was trained yet: give the same command again',
  });
}

/** A disk that is still full is reported once. */
function isSameFailure(first: unknown, second: unknown): boolean {
  return (
    first instanceof QianmoError &&
    second instanceof QianmoError &&
    first.report.what === second.report.what
  );
}

/**
 * Copies the arrays, because a run writes its tables in place.
 *
 * @throws QianmoError `usage` when one name has two shapes.
 */
export function stateFrom(
  start: StartFrom,
  spec: ModelSpec,
  seed: number,
  optimizer: GradientTransformation,
): TrainingState {
  const initial = initialMetaParameters(spec, seed);
  const metaParameters: MetaParameters = {
    dense: takenOver(initial.dense, start.metaParameters.dense, start.where),
    tables: takenOver(initial.tables, start.metaParameters.tables, start.where),
  };
  return {
    outerStep: 0,
    metaParameters,
    optimizer: optimizer.init(metaParameters),
    computedOn: [],
  };
}

/** The own names, with a copy of the values that the other run has for them. */
function takenOver<Tensor extends DenseTensor | EmbeddingTable>(
  own: ReadonlyMap<string, Tensor>,
  other: ReadonlyMap<string, Tensor>,
  where: string | undefined,
): Map<string, Tensor> {
  return new Map(
    [...own].map(([name, tensor]) => {
      const found = other.get(name);
      if (found === undefined) return [name, tensor];
      requireSameShape(name, asTensor(found), asTensor(tensor), where);
      return [name, { ...tensor, values: new Float32Array(found.values) }];
    }),
  );
}

function asTensor(tensor: DenseTensor | EmbeddingTable): DenseTensor {
  return 'shape' in tensor
    ? tensor
    : { shape: [tensor.rowCount, tensor.width], values: tensor.values };
}

function requireSameShape(
  name: string,
  found: DenseTensor,
  expected: DenseTensor,
  where: string | undefined,
): void {
  const differences = layoutDifferences(new Map([[name, found]]), new Map([[name, expected]]));
  if (differences.length === 0) return;
  throw errorOf('usage', 'the run to start from has another model', {
    ...(where === undefined ? {} : { where }),
    expected: 'the shapes of the model of this run',
    found: differences.join('; '),
    cure: 'give both runs the same model section and the same features',
  });
}

/** Enough for a rate to be known well within what training moves the bias by. */
const TASKS_READ_MAX = 2_000;

/**
 * The state at outer step 0 with the bias at the logit of the click rate: that of the first segment with clicks, where
 * there are several. Where all labels are values, it stays at 0, the mean of standardised values.
 */
async function withBiasStart(
  state: TrainingState,
  { config, store }: Pick<PreparedRun, 'config' | 'store'>,
): Promise<TrainingState> {
  if (config.training.biasStart !== 'click-rate') return state;
  const ofClicks = labelsOf(store.manifest).findIndex(({ loss }) => loss === 'binary');
  const tasks = store.tasks
    .filter(
      ({ split, labelIndex = 0 }) =>
        (split === 'train' || split === 'trunk') && labelIndex === ofClicks,
    )
    .map(({ taskIndex }) => taskIndex);
  if (tasks.length === 0) return state;
  const rate = await clickRateOf(store, spreadOver(tasks, TASKS_READ_MAX));
  const dense = new Map(state.metaParameters.dense);
  dense.set('bias', { shape: [1], values: Float32Array.of(Math.log(rate / (1 - rate))) });
  return { ...state, metaParameters: { ...state.metaParameters, dense } };
}
