/** The whole state of a run at one outer step. A checkpoint holds it, and a resume starts from it. */

import type { TrainingConfig } from '../../shared/config/training-config.js';
import type { MetaParameters } from '../../shared/models/meta-parameters.js';
import type { ValidatedStep } from './checkpoint-manifest.js';
import type { EmbeddingTable } from '../../shared/tensors/named-tensors.js';
import type { DenseTensor } from '../../shared/tensors/named-tensors.js';

export interface OptimizerState {
  /** By `STAGE/VARIABLE`, for example `adam.firstMoment/layer0.weight`. */
  readonly dense: ReadonlyMap<string, DenseTensor>;
  /** By `STAGE/FEATURE`, with the row count of the feature's table. */
  readonly tables: ReadonlyMap<string, EmbeddingTable>;
  readonly scalars: Readonly<Record<string, number>>;
}

/** A training task that the run leaves out from this outer step on. */
export interface QuarantinedTask {
  readonly outerStep: number;
  readonly taskIndex: number;
  readonly key: string;
}

/** The kind of machine, by its fingerprint, that computed the outer steps after `outerStep`. */
interface ComputedOn {
  readonly outerStep: number;
  readonly fingerprint: string;
}

/** A store that was trained on up to an outer step, before logs were appended to it. */
interface EarlierStore {
  readonly outerStep: number;
  readonly storeDigest: string;
}

export interface TrainingState {
  /** Outer steps completed; the sampler needs nothing else. */
  readonly outerStep: number;
  readonly metaParameters: MetaParameters;
  readonly optimizer: OptimizerState;
  /** In order of outer steps; one entry unless the config has demanded another kind on a resume. */
  readonly computedOn: readonly ComputedOn[];
  /** In order of their finding; absent while there is none. */
  readonly quarantinedTasks?: readonly QuarantinedTask[];
  /** In order of outer steps; absent while the run has had one store. */
  readonly earlierStores?: readonly EarlierStore[];
  /** The number of outer steps that the run was extended to; absent while it is that of the config. */
  readonly extendedOuterSteps?: number;
  /** The scores on validation adgroups so far; absent where training does not stop early. */
  readonly validated?: readonly ValidatedStep[];
}

/** The number of outer steps of the run, complete or to come. */
export function outerStepsOf(
  { extendedOuterSteps }: { readonly extendedOuterSteps?: number | undefined },
  { outerSteps }: Pick<TrainingConfig, 'outerSteps'>,
): number {
  return extendedOuterSteps ?? outerSteps;
}

/** The record after an outer step on this kind of machine; null for a step without jobs. */
export function computedOnAfter(
  { outerStep, computedOn }: Pick<TrainingState, 'outerStep' | 'computedOn'>,
  fingerprint: string | null,
): readonly ComputedOn[] {
  const last = computedOn.at(-1)?.fingerprint ?? null;
  return fingerprint === null || fingerprint === last
    ? computedOn
    : [...computedOn, { outerStep, fingerprint }];
}
