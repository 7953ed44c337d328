/** The config that trains the global arm: one model on all rows, by the same system. */

import type { RunConfig } from '../../shared/config/run-config.js';
import { isNamed, type ModelSpec } from '../../shared/models/model-spec.js';

/** Same data, model, seed and budget, except where `globalTraining` says otherwise. */
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
    output: `${config.output.replace(/\/+$/, '')}/global`,
  };
}

/** The number of outer steps of the global arm of a run that has so many, which may be more than its config says. */
export function globalOuterStepsOf(
  { globalTraining }: Pick<RunConfig, 'globalTraining'>,
  runOuterSteps: number,
): number {
  return globalTraining.outerSteps ?? runOuterSteps;
}

/**
 * Removes from `training.trainable` the names that only the run's method has. If nothing else is
 * trainable, the arm is what the run starts from.
 *
 * @param spec the model spec of the global arm
 */
export function withoutMethodNames(
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
