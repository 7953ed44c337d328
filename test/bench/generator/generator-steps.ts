/**
 * The generator's training step on our side, in one process:
 *
 *   graph   the captured gradient, with its batches on the device, and the update
 *   job     all work of coordinator and worker for a step, except reading rows and using a queue:
 *           encode tensors, compute a gradient job, decode its output, update the generator
 */

import { StorageConfigSchema } from '../../../shared/storage/open-object-store.js';
import type * as tfjs from '@tensorflow/tfjs';
import { encodeDense, encodeFrozen } from '../../../coordinator/plan/row-pack-gather.js';
import type { MetaParameters } from '../../../shared/models/initial-values.js';
import { methodPlanOf } from '../../../shared/methods/methods.js';
import { PROTOCOL_VERSION, type GradientWork, type Job } from '../../../shared/queue/protocol.js';
import { blobRefOf, type BlobRef } from '../../../shared/storage/blob-store.js';
import type { TaskRows, TaskStore } from '../../../shared/tasks/task-store.js';
import type { DenseTensor } from '../../../shared/tensors/named-tensors.js';
import { decodeTensors, encodeTensors } from '../../../shared/tensors/tensor-codec.js';
import {
  captureGradient,
  type GradientInput,
} from '../../../worker/compute/job/captured-gradient.js';
import { computeJob } from '../../../worker/compute/job/compute-job.js';
import { createComputations } from '../../../worker/compute/job/computations.js';
import type { Engine } from '../../../worker/compute/engine/load-engine.js';
import {
  FrozenTensorCache,
  type FrozenTensors,
} from '../../../worker/compute/job/frozen-tensors.js';
import { deviceJobOf, PackMemory } from '../../../worker/compute/job/device-job.js';
import { batchesOf } from '../../../worker/compute/models/device-tasks.js';
import { rolesOf } from '../../../worker/compute/meta-gradients/rows-read.js';
import { microBatchesOf, type MicroBatch } from '../../../shared/tasks/rows/micro-batches.js';
import {
  baseParameters,
  BATCH_COUNT,
  batchTasks,
  GENERATOR_METHOD,
  GENERATOR_MODEL,
  generatorSpec,
  META_RATE,
  ROWS_PER_SET,
} from './generator-workload.js';

export const STEP_VARIANTS = ['graph', 'job'] as const;
type StepVariant = (typeof STEP_VARIANTS)[number];

interface GeneratorStep {
  readonly run: (batchIndex: number) => void;
  /** The current weights of the generator. */
  readonly weight: () => Float32Array;
}

const WEIGHT = 'generator.weight';
const ROWS_MAX = 16_384;

export async function createGeneratorStep(
  engine: Engine,
  store: TaskStore,
  tasksPerStep: number,
  variant: StepVariant,
): Promise<GeneratorStep> {
  const batches: TaskRows[][] = [];
  for (let batch = 0; batch < BATCH_COUNT; batch += 1)
    batches.push(await store.readTasks(batchTasks(tasksPerStep, batch)));
  return variant === 'graph' ? graphStep(engine, batches) : jobStep(engine, store, batches);
}

/** All tasks in one leaf. */
function gradientWork(taskCount: number): GradientWork {
  const weights = Array.from({ length: taskCount }, () => 1 / taskCount);
  return {
    kind: 'gradient',
    method: GENERATOR_METHOD,
    taskWeights: weights,
    coldTaskWeights: weights,
    leaves: { first: 0, stepLeafCount: 1, shapes: [shapeOf(taskCount)] },
  };
}

function shapeOf(count: number): GradientWork['leaves']['shapes'][number] {
  const { taskCount, supportExtent, queryExtent, flatExtent } = onlyMicroBatch(count);
  return [count, taskCount, supportExtent, queryExtent, flatExtent];
}

function onlyMicroBatch(count: number): MicroBatch {
  const size = { supportRowCount: ROWS_PER_SET, queryRowCount: ROWS_PER_SET };
  const sizes = Array.from({ length: count }, () => size);
  const [microBatch, ...others] = microBatchesOf(sizes, ROWS_MAX);
  if (microBatch === undefined || others.length > 0) throw new Error('one micro-batch');
  return microBatch;
}

function graphStep(engine: Engine, batches: readonly TaskRows[][]): GeneratorStep {
  const { tf } = engine;
  const spec = generatorSpec();
  const meta = baseParameters();
  const gradient = captureGradient(engine, spec, GENERATOR_METHOD);
  const { bytes, ref } = frozenInputOf(meta);
  const frozen = new FrozenTensorCache(engine).get(ref.sha256, bytes, 'frozen');
  const inputs = batches.map((tasks) => inputOf(engine, meta, frozen, tasks));
  const initial = weightTensorOf(meta);
  let weight = tf.tensor(initial.values, [...initial.shape]);
  return {
    run: (batchIndex) => {
      const input = inputs[batchIndex % inputs.length];
      if (input === undefined) throw new Error('there are no batches');
      const found = gradient.run({ ...input, dense: { ...input.dense, [WEIGHT]: weight } });
      const slope = found.gradients[WEIGHT];
      if (slope === undefined) throw new Error('the generator has a gradient');
      const next = tf.tidy(() => tf.sub(weight, tf.mul(slope, META_RATE)));
      const { queryLosses, supportLosses, gradients } = found;
      tf.dispose([weight, gradients, queryLosses, supportLosses]);
      weight = next;
    },
    weight: () => weight.dataSync<'float32'>(),
  };
}

/** All tasks of a batch as one micro-batch on the device. */
function inputOf(
  engine: Engine,
  meta: MetaParameters,
  frozen: FrozenTensors,
  tasks: readonly TaskRows[],
): GradientInput {
  const spec = generatorSpec();
  const job = deviceJobOf(
    { engine, packMemory: new PackMemory() },
    spec,
    { tasks, neighbours: [] },
    {
      dense: new Map([[WEIGHT, weightTensorOf(meta)]]),
      frozen,
      pack: null,
    },
  );
  const microBatch = onlyMicroBatch(tasks.length);
  const weights: tfjs.Tensor1D = engine.tf.tensor1d(
    Array.from({ length: microBatch.taskCount }, (_, place) =>
      place < tasks.length ? 1 / tasks.length : 0,
    ),
  );
  return {
    ...{ dense: job.dense, ...job.pack },
    ...batchesOf(job, microBatch, { roles: rolesOf(methodPlanOf(GENERATOR_METHOD)) }),
    weights: { warm: weights, cold: weights },
  };
}

function jobStep(engine: Engine, store: TaskStore, batches: readonly TaskRows[][]): GeneratorStep {
  const spec = generatorSpec();
  const meta = baseParameters();
  const computations = createComputations(engine);
  const { values } = weightTensorOf(meta);
  const frozen = frozenInputOf(meta);
  const nothing = blobRefOf(encodeTensors(new Map()));
  return {
    run: (batchIndex) => {
      const place = batchIndex % batches.length;
      const tasks = batches[place] ?? [];
      const job: Job = {
        protocolVersion: PROTOCOL_VERSION,
        ...{
          runId: 'bench',
          epoch: 0,
          outerStep: 0,
          jobIndex: 0,
          device: 'auto',
          portable: false,
          model: GENERATOR_MODEL,
        },
        store: { address: '', digest: store.digest, storage: StorageConfigSchema.parse({}) },
        taskIndices: tasks.map(({ taskIndex }) => taskIndex),
        ...{ microBatchRowsMax: ROWS_MAX, timeoutMs: 60_000, blobLifetimeMs: 60_000 },
        ...{ dense: nothing, frozen: frozen.ref, work: gradientWork(tasks.length) },
      };
      const { output } = computeJob(
        computations,
        {
          job,
          dense: encodeDense(meta, spec.learned.variables),
          ...{ rowPack: null, frozen: frozen.bytes },
        },
        { features: store.manifest.features, tasks, neighbours: [] },
      );
      const slope = decodeTensors(output, 'output').get(WEIGHT)?.values;
      if (slope === undefined) throw new Error('the generator has a gradient');
      for (let index = 0; index < values.length; index += 1)
        values[index] = (values[index] ?? 0) - META_RATE * (slope[index] ?? 0);
    },
    weight: () => values,
  };
}

/** The frozen tensors are sent once, as in a run. */
function frozenInputOf(meta: MetaParameters): {
  readonly bytes: Uint8Array;
  readonly ref: BlobRef;
} {
  const frozen = encodeFrozen(meta, generatorSpec(), Number.POSITIVE_INFINITY);
  if (frozen?.holdsTables !== true) throw new Error('the base is frozen');
  return { bytes: frozen.bytes, ref: blobRefOf(frozen.bytes) };
}

/** The values themselves, not a copy. */
function weightTensorOf({ dense }: MetaParameters): DenseTensor {
  const weight = dense.get(WEIGHT);
  if (weight === undefined) throw new Error('the generator has weights');
  return weight;
}
