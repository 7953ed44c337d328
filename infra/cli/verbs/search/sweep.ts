/** `qianmo sweep`: tries many variants of one run config on the validation adgroups. */

import { sweep } from '../../../library/index.js';
import { callOptionsOf } from '../../command/command-context.js';
import { dispatchOptions, format } from '../../command/shared-options.js';
import { firstOf, flagOption, verb } from '../../command/verb.js';

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
    format,
  },
  takesPlugins: true,
  help: `
Each trial is a run of its own below the sweep's output; the best one's config is written as best.yaml.

Example:
  qianmo sweep infra/examples/sweep.yaml --workers 2`,
  run: async (operands, { format, ...choice }, context) => {
    const record = await sweep({ config: firstOf(operands), ...choice }, callOptionsOf(context));
    const { sweepTable } = await import('../../../../coordinator/reports/sweep/sweep-table.js');
    const { sweepJson } = await import('../../../../coordinator/sweep/sweep-record.js');
    context.print(
      format === 'json' ? sweepJson(record) : sweepTable(record, context.outputColumns),
    );
  },
});
