/** `qianmo check`: the requirements of a run, and the cure for each that is not met. */

import { deviceReportLines } from '../../../shared/events/device-report.js';
import { check, QianmoError, type CheckResult } from '../../library/index.js';
import { callOptionsOf } from '../command/command-context.js';
import { device, format, redisOfConfig } from '../command/shared-options.js';
import { verb } from '../command/verb.js';

export const checkVerb = verb({
  name: 'check',
  description: 'check what a run needs and say how to get what is missing',
  argument: {
    name: '[run.yaml]',
    description: 'the run config, to check its config, store, queue and output too',
  },
  options: { redis: redisOfConfig, device, format },
  takesPlugins: true,
  help: '\nExample:\n  qianmo check run.yaml',
  run: async ([config], { format, ...choice }, context) => {
    const results = await check({ config, ...choice }, callOptionsOf(context));
    context.print(format === 'json' ? JSON.stringify(results) : checkTable(results));
    const problems = results.filter(({ state }) => state === 'problem');
    if (problems.length > 0)
      throw new QianmoError({
        kind: 'environment',
        what: `${problems.length} of ${results.length} requirements ${problems.length === 1 ? 'is' : 'are'} not met`,
        found: problems.map(({ requirement }) => requirement).join(', '),
        cure: 'the cures are named above',
      });
  },
});

function checkTable(results: readonly CheckResult[]): string {
  const width = Math.max(...results.map(({ requirement }) => requirement.length));
  return results
    .flatMap(({ state, requirement, detail, cure, device }) => {
      const margin = ' '.repeat(width + 11);
      const lines = [`${state.padEnd(7)}  ${requirement.padEnd(width)}  ${detail}`];
      if (cure !== null) lines.push(`${margin}cure: ${cure}`);
      const facts = device === undefined ? [] : deviceReportLines(device);
      const labelWidth = Math.max(...facts.map(([label]) => label.length));
      lines.push(...facts.map(([label, fact]) => `${margin}${label.padEnd(labelWidth)}  ${fact}`));
      return lines;
    })
    .join('\n');
}
