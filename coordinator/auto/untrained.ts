/** The config of a trial that is made of others, without outer steps of its own. Pure. */

import type { RunConfig } from '../../shared/config/run-config.js';

/** @param startFrom the outputs of the runs that it is made of. */
export function untrained(
  config: RunConfig,
  startFrom: NonNullable<RunConfig['training']['startFrom']>,
): RunConfig {
  const { earlyStopping: _stopping, trainable: _all, ...training } = config.training;
  return { ...config, training: { ...training, outerSteps: 0, startFrom } };
}
