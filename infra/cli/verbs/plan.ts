/** `qianmo plan`: predicts the throughput of a run on many workers from what it costs on one. */

import { writeFile } from 'node:fs/promises';
import {
  GBIT_PER_S_DEFAULT,
  GBIT_PER_S_MAX,
  PLANNED_WORKERS_MAX,
} from '../../../coordinator/runs/requests.js';
import { plan } from '../../library/index.js';
import { callOptionsOf } from '../command/command-context.js';
import { format, runConfigArgument } from '../command/shared-options.js';
import { firstOf, integerValue, textValue, valueOption, verb } from '../command/verb.js';
import { printDocument } from '../command/print-document.js';

export const planVerb = verb({
  name: 'plan',
  description: 'predict the throughput of a run on many workers, and what bounds it',
  argument: runConfigArgument,
  options: {
    workers: valueOption(
      '--workers <count>',
      'the number of workers to predict, in addition to those of the table',
      integerValue(1, PLANNED_WORKERS_MAX),
      { defaultText: '1000' },
    ),
    gbitPerS: valueOption(
      '--gbit-per-s <rate>',
      'the network rate of the queue server, in Gbit/s',
      integerValue(1, GBIT_PER_S_MAX),
      { defaultText: String(GBIT_PER_S_DEFAULT) },
    ),
    chart: valueOption(
      '--chart <file.svg>',
      'file for a picture of the throughput by workers',
      textValue.optional(),
    ),
    format,
  },
  takesPlugins: true,
  help: `
Example:
  qianmo plan run.yaml --workers 1000
Trains for 56 outer steps in one process, writes nothing of the run, and predicts the throughput of 1 to 1,000 workers from its real plans.`,
  run: async (operands, { format, chart, ...choice }, context) => {
    const planned = await plan({ config: firstOf(operands), ...choice }, callOptionsOf(context));
    const { capacityDocument, capacitySvg } =
      await import('../../../coordinator/reports/capacity-document.js');
    if (chart !== undefined) await writeFile(chart, await capacitySvg(planned));
    printDocument(capacityDocument(planned), format, context);
  },
});
