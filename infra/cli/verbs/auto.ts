/** `qianmo auto`: chooses model, method and training of a run by a search within a budget. */

import { z } from 'zod';
import { AutoTrialsMaxSchema, BudgetMinutesSchema } from '../../../shared/config/auto-config.js';
import { auto } from '../../library/index.js';
import { dispatchOptions, format, runConfigArgument } from '../command/shared-options.js';
import { firstOf, flagOption, valueOption, verb } from '../command/verb.js';
import { watchedOptionsOf, watchingOptions } from '../command/watching-options.js';
import { printDocument } from '../command/print-document.js';

export const autoVerb = verb({
  name: 'auto',
  description: 'choose model, method and training on the validation adgroups, within a budget',
  argument: runConfigArgument,
  options: {
    ...dispatchOptions,
    budgetMinutes: valueOption(
      '--budget-minutes <minutes>',
      'how long to search, in place of auto.budgetMinutes (10 by default)',
      z.coerce.number().pipe(BudgetMinutesSchema).optional(),
    ),
    trialsMax: valueOption(
      '--trials-max <n>',
      'how many trials to begin at most; without a time, all of them',
      z.coerce.number().pipe(AutoTrialsMaxSchema).optional(),
    ),
    resume: flagOption('--resume', 'continue the search that exists, in what is left of its time'),
    fresh: flagOption('--fresh', 'start again although a search exists', {
      conflictsWith: 'resume',
    }),
    ...watchingOptions,
    format,
  },
  takesPlugins: true,
  help: `
The config needs run, seed, data and output; a model or method that it names is tried first. The choice is a run of its
own below <output>/auto, and is trained already; its config is <output>/auto/best.yaml.

Example:
  qianmo auto run.yaml --budget-minutes 10
  qianmo evaluate runs/shop-clicks/auto/best.yaml
  qianmo export runs/shop-clicks/auto/best.yaml`,
  run: async (operands, { format, metricsPort, metricsHost, logFormat, ...choice }, context) => {
    const options = watchedOptionsOf(context, { metricsPort, metricsHost, logFormat });
    const record = await auto({ config: firstOf(operands), ...choice }, options);
    const { sweepDocument } = await import('../../../coordinator/reports/sweep-document.js');
    printDocument(sweepDocument(record), format, context);
  },
});
