/** `qianmo check`: what a run needs, and the cure for what is missing. */

import { z } from 'zod';
import { loadRunConfig } from '../../../shared/config/load-run-config.js';
import { DeviceDemandSchema } from '../../../shared/config/run-config.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { deviceReportLines } from '../../../shared/events/device-report.js';
import type { CommandContext } from '../command-context.js';
import { configReaderOf } from '../named-places.js';
import { parsedOptions } from '../usage-failure.js';
import { checkMachine, checkRun, type CheckResult } from '../preflight.js';

const OptionsSchema = z.object({
  redis: z.string().optional(),
  device: DeviceDemandSchema,
  format: z.enum(['table', 'json']),
});

export async function checkVerb(
  path: string | undefined,
  rawOptions: unknown,
  context: CommandContext,
): Promise<void> {
  const options = parsedOptions(OptionsSchema, rawOptions, 'check');
  const config =
    path === undefined ? null : await loadRunConfig(path, configReaderOf(context.environment));
  const demand = options.device === 'auto' ? config?.compute.device : options.device;
  const results = await checkMachine(demand ?? 'auto', context.environment);
  if (config !== null)
    results.push(...(await checkRun(config, options.redis ?? config.queue.redisUrl)));
  context.print(options.format === 'json' ? JSON.stringify(results) : checkTable(results));
  const problems = results.filter(({ state }) => state === 'problem');
  if (problems.length > 0)
    throw new QianmoError({
      kind: 'environment',
      what: `${problems.length} of ${results.length} requirements ${problems.length === 1 ? 'is' : 'are'} not met`,
      found: problems.map(({ requirement }) => requirement).join(', '),
      cure: 'the cures are named above',
    });
}

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
