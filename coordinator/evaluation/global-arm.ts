/** The config that trains the global arm: one model on all rows, by the same system. */

import type { RunConfig } from '../../shared/config/run-config.js';

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

/** Run names have at most 63 characters. */
function globalRunName(run: string): string {
  const suffix = '-global';
  return `${run.slice(0, 63 - suffix.length)}${suffix}`;
}
