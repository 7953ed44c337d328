/** `qianmo sweep`: tries many variants of one run config on the validation adgroups. */

import { sweep } from '../../library/index.js';
import { dispatchOptions, format } from '../command/shared-options.js';
import { firstOf, flagOption, verb } from '../command/verb.js';
import { watchedOptionsOf, watchingOptions } from '../command/watching-options.js';
import { printDocument } from '../command/print-document.js';

export const sweepVerb = verb({
  name: 'sweep',
  description: 'try methods and settings, narrowed down on the validation adgroups',
  argument: {
    name: '<sweep.yaml>',
    description: 'the sweep config, which names the run config that the trials vary',
  },
  options: {
    ...dispatchOptions,
    resume: flagOption('--resume', 'continue the sweep that exists'),
    fresh: flagOption('--fresh', 'start again although a sweep exists', {
      conflictsWith: 'resume',
    }),
    ...watchingOptions,
    format,
  },
  takesPlugins: true,
  help: `
Each trial is a run of its own below the sweep's output; the best one's config is written as best.yaml.

Example:
  qianmo sweep infra/examples/sweep.yaml`,
  run: async (operands, { format, metricsPort, metricsHost, logFormat, ...choice }, context) => {
    const options = watchedOptionsOf(context, { metricsPort, metricsHost, logFormat });
    const record = await sweep({ config: firstOf(operands), ...choice }, options);
    const { sweepDocument } = await import('../../../coordinator/reports/sweep-document.js');
    printDocument(sweepDocument(record), format, context);
  },
});
