/**
 * State that a compute process keeps between jobs: captured functions by model and method, since
 * capturing takes a hundred times as long as a call, and frozen inputs by content.
 */

import { canonicalJson } from '../../../shared/base/canonical-json.js';
import { LruCache } from '../../../shared/base/lru-cache.js';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import { methodPlanOf } from '../../../shared/methods/methods.js';
import type {
  AdaptWork,
  FeatureWork,
  GradientWork,
  PredictWork,
} from '../../../shared/queue/protocol.js';
import type { OnProgress } from '../../process/compute-protocol.js';
import {
  captureAdaptation,
  type AdaptationFunctions,
  captureScoring,
  type ScoringFunctions,
  type Adapting,
} from './adapt-tasks.js';
import type { GraphShelves } from '../engine/capture/graph-shelf.js';
import type { Engine } from '../engine/load-engine.js';
import { PackMemory, FrozenTensorCache, type DeviceJob } from './device-job.js';
import type * as tfjs from '@tensorflow/tfjs';
import { capture, type Captured } from '../engine/capture/capture.js';
import {
  metaGradient,
  rolesBeforeSteps,
  unadaptedQueryLosses,
} from '../meta-gradients/meta-gradient.js';
import {
  jobTensorsOf,
  type BatchInput,
  type MetaGradientResult,
  type TaskWeights,
} from '../meta-gradients/passes.js';

export interface Computations {
  readonly engine: Engine;
  /** Called before each micro-batch. */
  readonly onProgress: OnProgress;
  /** Inputs that the jobs of one run share, on the device. */
  readonly frozen: FrozenTensorCache;
  readonly packMemory: PackMemory;
  gradientOf(spec: ModelSpec, method: GradientWork['method']): GradientFunction;
  queryLossOf(spec: ModelSpec, method: GradientWork['method']): QueryLossFunction;
  adaptationOf(spec: ModelSpec, method: GradientWork['method']): AdaptationFunctions;
  scoringOf(spec: ModelSpec): ScoringFunctions;
  /** Frees every graph and frozen tensor. */
  dispose(): void;
}

/** Captured functions held at once; the least recently used is freed beyond it. */
const KEPT_COUNT_MAX = 32;

export function createComputations(
  engine: Engine,
  onProgress: OnProgress = () => undefined,
  shelves: GraphShelves | null = null,
): Computations {
  const held = new LruCache<string, Disposable>({ countMax: KEPT_COUNT_MAX });
  const recall = <Of extends Disposable>(key: readonly unknown[], create: () => Of): Of => {
    const text = canonicalJson(key);
    // A key begins with what it is the key of.
    const known = held.get(text) as Of | undefined;
    if (known !== undefined) return known;
    const created = create();
    for (const evicted of held.put(text, created)) evicted.dispose();
    return created;
  };
  const frozen = new FrozenTensorCache(engine);
  return {
    engine,
    onProgress,
    frozen,
    packMemory: new PackMemory(),
    gradientOf: (spec, method) =>
      recall(['gradient', spec, method], () => captureGradient(engine, spec, method, shelves)),
    queryLossOf: (spec, method) =>
      recall(['query loss', spec, method], () => captureQueryLoss(engine, spec, method, shelves)),
    adaptationOf: (spec, method) =>
      recall(['adaptation', spec, method], () =>
        captureAdaptation(
          engine,
          spec,
          methodPlanOf(method).innerLoop,
          (functionName) => shelves?.(['adaptation', functionName, spec, method]) ?? null,
        ),
      ),
    scoringOf: (spec) => recall(['scoring', spec], () => captureScoring(engine, spec, shelves)),
    dispose: () => {
      for (const each of held.clear()) each.dispose();
      frozen.dispose();
    },
  };
}

/** The functions and settings by which a job's tasks adapt. */
export function adaptingOf(
  computations: Computations,
  job: DeviceJob,
  { method }: PredictWork | AdaptWork | FeatureWork,
): Adapting {
  return {
    ...{ job, loop: methodPlanOf(method).innerLoop },
    functions: computations.adaptationOf(job.spec, method),
    scoring: computations.scoringOf(job.spec),
  };
}

interface Disposable {
  dispose(): void;
}

type GradientInput = BatchInput & {
  /** `[taskCount]`, 0 for padding. */
  readonly weights: {
    readonly warm: tfjs.Tensor1D;
    readonly cold?: tfjs.Tensor1D;
    /** `[innerSteps]` */
    readonly steps?: tfjs.Tensor1D;
  };
  /** `[taskCount]`, where the method reads them. */
  readonly trunkFlags?: tfjs.Tensor1D;
};

/** `MetaGradientResult` as a structure of tensors. */
type GradientOutput = {
  readonly gradients: { readonly [name: string]: tfjs.Tensor };
  readonly rowGradient?: tfjs.Tensor2D;
  readonly queryLosses?: tfjs.Tensor1D;
  readonly supportLosses?: tfjs.Tensor1D;
};

type GradientFunction = Captured<GradientInput, GradientOutput>;

function captureGradient(
  engine: Engine,
  spec: ModelSpec,
  method: GradientWork['method'],
  shelves: GraphShelves | null = null,
): GradientFunction {
  const plan = methodPlanOf(method);
  const compute = ({ weights, trunkFlags, ...input }: GradientInput): GradientOutput => {
    const tensors = jobTensorsOf(engine, spec, input, weights.warm.shape[0]);
    const job = { ...tensors, trunkFlags };
    return outputOf(metaGradient(plan, job, bothWeights(weights)));
  };
  return capture(engine, compute, {
    name: `the gradient of ${method.kind}`,
    shelf: shelves?.(['gradient', spec, method]) ?? null,
  });
}

function bothWeights({ warm, cold = warm, steps }: GradientInput['weights']): TaskWeights {
  return { warm, cold, ...(steps === undefined ? {} : { steps }) };
}

function outputOf(result: MetaGradientResult): GradientOutput {
  const { gradients, rowGradient, queryLosses, supportLosses } = result;
  return {
    gradients: Object.fromEntries(gradients),
    ...(rowGradient === null ? {} : { rowGradient }),
    ...(queryLosses === null ? {} : { queryLosses }),
    ...(supportLosses === null ? {} : { supportLosses }),
  };
}

type LossOutput = { readonly losses: tfjs.Tensor1D };

interface QueryLossFunction {
  /** Losses of the tasks, `[taskCount]`; null when no task has query rows. */
  run(input: BatchInput): tfjs.Tensor1D | null;
  dispose(): void;
}

function captureQueryLoss(
  engine: Engine,
  spec: ModelSpec,
  method: GradientWork['method'],
  shelves: GraphShelves | null = null,
): QueryLossFunction {
  const { innerLoop } = methodPlanOf(method);
  const roles = rolesBeforeSteps(innerLoop);
  const captured: Captured<BatchInput, LossOutput> = capture(
    engine,
    (input: BatchInput): LossOutput => ({
      losses: unadaptedQueryLosses(jobTensorsOf(engine, spec, input), innerLoop),
    }),
    {
      name: 'the query loss before adaptation',
      shelf: shelves?.(['query loss before adaptation', spec, method]) ?? null,
    },
  );
  return {
    run: ({ batches, ...shared }) => {
      if (batches.query === undefined) return null;
      // A shape has a graph: rows that nothing reads would make more of them.
      const read = Object.entries(batches).filter(([role]) => roles.has(role));
      return captured.run({ ...shared, batches: Object.fromEntries(read) }).losses;
    },
    dispose: () => {
      captured.dispose();
    },
  };
}
