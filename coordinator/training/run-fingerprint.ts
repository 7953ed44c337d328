/** The kind of machine that a run must be computed on when it starts or continues. */

import type { ComputeConfig } from '../../shared/config/compute-config.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import type { TrainingState } from '../checkpoints/training-state.js';

/**
 * Returns the fingerprint that the config demands, else the one that computed the checkpoint; null
 * for a new run, which takes that of its first result. A demand that differs from the checkpoint is
 * a change on purpose: it is reported, and the next checkpoint records it.
 */
export function demandedFingerprint(
  { fingerprint }: Pick<ComputeConfig, 'fingerprint'>,
  { outerStep, computedOn }: Pick<TrainingState, 'outerStep' | 'computedOn'>,
  sink: RunEventSink,
): string | null {
  const earlier = computedOn.at(-1)?.fingerprint ?? null;
  const demanded = fingerprint ?? earlier;
  if (earlier !== null && demanded !== null && demanded !== earlier)
    sink({ kind: 'fingerprint-changed', outerStep, fingerprint: demanded, earlier });
  return demanded;
}
