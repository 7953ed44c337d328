/** `qianmo train`: trains a run from its first or latest outer step to the last. */

import { train } from '../../library/index.js';
import { counted } from '../../../shared/names/counted.js';
import { dispatchOptions, format, runConfigArgument } from '../command/shared-options.js';
import { firstOf, flagOption, verb } from '../command/verb.js';
import { watchedOptionsOf, watchingOptions } from '../command/watching-options.js';

export const trainVerb = verb({
  name: 'train',
  description: 'meta-train on the training tasks of a prepared store',
  argument: runConfigArgument,
  options: {
    ...dispatchOptions,
    resume: flagOption('--resume', 'continue from the latest checkpoint'),
    fresh: flagOption('--fresh', 'start again although checkpoints of this run exist', {
      conflictsWith: 'resume',
    }),
    dashboard: flagOption('--dashboard', 'serve the queue board while training'),
    ...watchingOptions,
    format,
  },
  takesPlugins: true,
  help: `
Example:
  qianmo train run.yaml
It computes on this machine, in as many processes as pay off. Workers of a queue, on any machines, compute the same:
  qianmo worker --redis redis://10.0.0.5:6379
  qianmo train run.yaml --redis redis://10.0.0.5:6379`,
  run: async (operands, { format, metricsPort, metricsHost, logFormat, ...choice }, context) => {
    const options = watchedOptionsOf(context, { metricsPort, metricsHost, logFormat });
    const result = await train({ config: firstOf(operands), ...choice }, options);
    const { run, outerSteps, checkpoint, digest } = result;
    context.print(
      format === 'json'
        ? JSON.stringify(result)
        : `trained ${run}: ${counted(outerSteps, 'outer step')}, checkpoint ${checkpoint}, digest ${digest}`,
    );
  },
});
