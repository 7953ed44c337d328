/**
 * The entry point `qianmo/engine`: graph capture for TensorFlow.js, for programs that need nothing
 * else of qianmo. `infra/docs/engine.md` describes it.
 */

export type { BackendChoice } from '../../worker/compute/engine/native-backend.js';
export {
  capture,
  type Captured,
  type CaptureOptions,
  type CaptureStatistics,
} from '../../worker/compute/engine/capture/capture.js';
export {
  captureByShape,
  type ShapedCapture,
  type ShapedCaptureStatistics,
} from '../../worker/compute/engine/capture/capture-by-shape.js';
export { saveGraph } from '../../worker/compute/engine/capture/compile-graph.js';
export type { TensorStructure } from '../../worker/compute/engine/capture/tensor-structure.js';
export type { Graph } from '../../worker/compute/engine/graph/graph.js';
export type { Kernels } from '../../worker/compute/engine/kernels.js';
export {
  loadEngine,
  withoutTensorsLeft,
  type Engine,
  type PortableFallback,
} from '../../worker/compute/engine/load-engine.js';
export { pullBack, type PulledBack } from '../../worker/compute/engine/pull-back.js';
