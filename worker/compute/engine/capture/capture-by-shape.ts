/**
 * A captured function for inputs of several shapes. Each shape has a graph, and the least recently
 * used graph is freed if there are too many. Pad inputs so that shapes recur.
 */

import { LruCache } from '../../../../shared/base/lru-cache.js';
import { capture, type Captured, type CaptureOptions } from './capture.js';
import type { Engine } from '../load-engine.js';
import { nativeBackendOf } from '../native-backend.js';
import { isRecording } from './record-graph.js';
import { signatureOf, type TensorStructure } from './tensor-structure.js';

export interface ShapedCaptureStatistics {
  readonly callCount: number;
  /** Calls with a shape for which no graph was held, so that one was made. */
  readonly captureCount: number;
  /** Graphs freed to make room. If it keeps growing, allow more shapes or pad more coarsely. */
  readonly evictionCount: number;
  /** Graphs held at present. */
  readonly shapeCount: number;
  readonly captureMs: number;
}

export interface ShapedCapture<In extends TensorStructure, Out extends TensorStructure> {
  /** Like `Captured.run`, for inputs of any shape. */
  run(input: In): Out;
  dispose(): void;
  readonly statistics: ShapedCaptureStatistics;
}

/** Graphs of one computation of jobs held at once: the jobs of a run have some twenty shapes. */
export const SHAPE_COUNT_MAX = 64;

/** Nothing is recorded before the first call. */
export function captureByShape<In extends TensorStructure, Out extends TensorStructure>(
  engine: Pick<Engine, 'tf'>,
  compute: (input: In) => Out,
  options: CaptureOptions & { readonly shapeCountMax: number },
): ShapedCapture<In, Out> {
  const { name, shapeCountMax } = options;
  if (!Number.isSafeInteger(shapeCountMax) || shapeCountMax < 1)
    throw new RangeError(
      `${name}: shapeCountMax is ${shapeCountMax}, expected a positive whole number`,
    );
  const bySignature = new LruCache<string, Captured<In, Out>>({ countMax: shapeCountMax });
  const counts = { callCount: 0, captureCount: 0, evictionCount: 0, captureMs: 0 };
  let isDisposed = false;
  const captureFor = (signature: string, input: In): Captured<In, Out> => {
    const made = capture(engine, compute, input, options);
    const { recordMs, rewriteMs, loadMs } = made.statistics;
    counts.captureCount += 1;
    counts.captureMs += recordMs + rewriteMs + loadMs;
    for (const evicted of bySignature.put(signature, made)) {
      evicted.dispose();
      counts.evictionCount += 1;
    }
    return made;
  };
  return {
    run: (input) => {
      if (isDisposed) throw new Error(`the captured function ${name} was disposed and cannot run`);
      counts.callCount += 1;
      const backend = nativeBackendOf(engine.tf);
      if (backend !== null && isRecording(backend)) return compute(input);
      const signature = signatureOf(input);
      const captured = bySignature.get(signature) ?? captureFor(signature, input);
      return captured.run(input);
    },
    dispose: () => {
      isDisposed = true;
      for (const captured of bySignature.clear()) captured.dispose();
    },
    get statistics() {
      return { ...counts, shapeCount: bySignature.size };
    },
  };
}
