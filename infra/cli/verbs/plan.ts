/** `qianmo plan`: predicts the throughput of a run on many workers from what it costs on one. */

import { writeFile } from 'node:fs/promises';
import { CORES_MAX, PLANNED_WORKERS_MAX } from '../../../coordinator/runs/requests.js';
import { plan } from '../../library/index.js';
import { callOptionsOf } from '../command/command-context.js';
import { format, redisOfConfig, runConfigArgument } from '../command/shared-options.js';
import { firstOf, integerValue, textValue, valueOption, verb } from '../command/verb.js';

export const planVerb = verb({
  name: 'plan',
  description: 'predict the throughput of a run on many workers, and what bounds it',
  argument: runConfigArgument,
  options: {
    workers: valueOption(
      '--workers <count>',
      'the number of workers to choose the size of jobs for',
      integerValue(1, PLANNED_WORKERS_MAX),
      { defaultText: '1000' },
    ),
    from: valueOption(
      '--from <plan.json>',
      'costs that --format json has printed, instead of measuring here',
      textValue.optional(),
    ),
    cores: valueOption(
      '--cores <count>',
      'the cores that coordinator, queue server and all workers share; by default each has its own',
      integerValue(1, CORES_MAX).optional(),
    ),
    chart: valueOption(
      '--chart <file.svg>',
      'file for a picture of the throughput by workers',
      textValue.optional(),
    ),
    redis: redisOfConfig,
    format,
  },
  takesPlugins: true,
  help: `
Example:
  qianmo plan run.yaml --workers 1000
Trains for 56 outer steps on one local worker, writes nothing of the run, and simulates outer steps of the run on other numbers of workers, with
large jobs in parts. The size of jobs is training.tasksPerJob, or training.rowsPerJobMax where training.rowsPerOuterStep draws rows.`,
  run: async (operands, { format, chart, ...choice }, context) => {
    const planned = await plan({ config: firstOf(operands), ...choice }, callOptionsOf(context));
    if (chart !== undefined) {
      const { capacitySvg } =
        await import('../../../coordinator/reports/capacity/capacity-chart.js');
      await writeFile(chart, capacitySvg(planned));
    }
    const { capacityLines } =
      await import('../../../coordinator/reports/capacity/capacity-table.js');
    context.print(
      format === 'json'
        ? JSON.stringify(planned)
        : capacityLines(planned, context.outputColumns).join('\n'),
    );
  },
});
