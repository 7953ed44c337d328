/**
 * State that a compute process keeps between jobs: captured functions by model and method, since
 * capturing takes a hundred times as long as a call, and frozen inputs by content.
 */

import { canonicalJson } from '../../../shared/base/canonical-json.js';
import { LruCache } from '../../../shared/base/lru-cache.js';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import { methodPlanOf } from '../../../shared/methods/methods.js';
import type { AdaptWork, GradientWork, PredictWork } from '../../../shared/queue/protocol.js';
import type { OnProgress } from '../../process/compute-protocol.js';
import {
  captureGradient,
  captureQueryLoss,
  type GradientFunction,
  type QueryLossFunction,
} from './captured-gradient.js';
import { captureAdaptation, type AdaptationFunctions } from '../adaptation/captured-adaptation.js';
import type { Adapting } from '../adaptation/adapting-batch.js';
import type { GraphShelves } from '../engine/capture/graph-shelf.js';
import type { Engine } from '../engine/load-engine.js';
import { captureScoring, type ScoringFunctions } from '../scoring/captured-scoring.js';
import { PackMemory, FrozenTensorCache, type DeviceJob } from './device-job.js';

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

/** Models and methods held at once, of each kind; the least recently used is freed beyond it. */
const KEPT_COUNT_MAX = 8;

export function createComputations(
  engine: Engine,
  onProgress: OnProgress = () => undefined,
  shelves: GraphShelves | null = null,
): Computations {
  const gradients = recentlyUsed<GradientFunction>();
  const queryLosses = recentlyUsed<QueryLossFunction>();
  const adaptations = recentlyUsed<AdaptationFunctions>();
  const scorings = recentlyUsed<ScoringFunctions>();
  const frozen = new FrozenTensorCache(engine);
  return {
    engine,
    onProgress,
    frozen,
    packMemory: new PackMemory(),
    gradientOf: (spec, method) =>
      gradients.get(canonicalJson([spec, method]), () =>
        captureGradient(engine, spec, method, shelves),
      ),
    queryLossOf: (spec, method) =>
      queryLosses.get(canonicalJson([spec, method]), () =>
        captureQueryLoss(engine, spec, method, shelves),
      ),
    adaptationOf: (spec, method) =>
      adaptations.get(canonicalJson([spec, method]), () =>
        captureAdaptation(
          engine,
          spec,
          methodPlanOf(method).innerLoop,
          (functionName) => shelves?.(['adaptation', functionName, spec, method]) ?? null,
        ),
      ),
    scoringOf: (spec) =>
      scorings.get(canonicalJson(spec), () => captureScoring(engine, spec, shelves)),
    dispose: () => {
      gradients.dispose();
      queryLosses.dispose();
      adaptations.dispose();
      scorings.dispose();
      frozen.dispose();
    },
  };
}

/** The functions and settings by which a job's tasks adapt. */
export function adaptingOf(
  computations: Computations,
  job: DeviceJob,
  { method }: PredictWork | AdaptWork,
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

interface RecentlyUsed<Value extends Disposable> {
  get(key: string, create: () => Value): Value;
  dispose(): void;
}

function recentlyUsed<Value extends Disposable>(): RecentlyUsed<Value> {
  const values = new LruCache<string, Value>({ countMax: KEPT_COUNT_MAX });
  return {
    get: (key, create) => {
      const known = values.get(key);
      if (known !== undefined) return known;
      const value = create();
      for (const evicted of values.put(key, value)) evicted.dispose();
      return value;
    },
    dispose: () => {
      for (const value of values.clear()) value.dispose();
    },
  };
}
