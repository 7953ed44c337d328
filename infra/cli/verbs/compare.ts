/** `qianmo compare`: evaluated runs side by side, on the same test rows. */

import { z } from 'zod';
import { compareRuns, type ChosenRun } from '../../../coordinator/comparison/compare-runs.js';
import { comparisonHtml } from '../../../coordinator/reports/comparison/comparison-page.js';
import { comparisonJson } from '../../../coordinator/comparison/comparison-report.js';
import { comparisonTable } from '../../../coordinator/reports/comparison/comparison-table.js';
import {
  parseRunArgument,
  readEvaluatedRun,
} from '../../../coordinator/comparison/evaluated-run.js';
import { loadRunConfig } from '../../../shared/config/load-run-config.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import type { CommandContext } from '../command-context.js';
import { configReaderOf, objectStoreAt } from '../named-places.js';
import { joinAddress, objectStoreOf } from '../run-files.js';
import { parsedOptions } from '../usage-failure.js';

const OptionsSchema = z.object({
  out: z.string().min(1, 'expected a value'),
  buckets: z.array(z.int()).optional(),
  segment: z.string().min(1, 'expected a value').optional(),
  format: z.enum(['table', 'json']),
});

export async function compareVerb(
  runs: readonly string[],
  rawOptions: unknown,
  context: CommandContext,
): Promise<void> {
  const options = parsedOptions(OptionsSchema, rawOptions, 'compare');
  const chosen: ChosenRun[] = [];
  for (const text of runs) {
    const { run, arm } = parseRunArgument(text);
    chosen.push({
      evaluated: await readEvaluatedRun(
        await storeOfRun(run, context.environment),
        options.segment ?? null,
      ),
      arm,
    });
  }
  const report = compareRuns(
    chosen,
    options.buckets === undefined ? {} : { sizeBucketEdges: options.buckets },
  );
  const out = objectStoreAt(options.out, context.environment);
  await out.put('comparison.json', Buffer.from(`${comparisonJson(report)}\n`), { kind: 'always' });
  await out.put('comparison.html', Buffer.from(comparisonHtml(report)), { kind: 'always' });
  context.sink({
    kind: 'report-written',
    address: joinAddress(options.out, 'comparison.html'),
  });
  context.print(
    options.format === 'json'
      ? comparisonJson(report)
      : comparisonTable(report, context.outputColumns),
  );
}

type Environment = CommandContext['environment'];

/** A config names the output of its run, and how to reach it. */
async function storeOfRun(run: string, environment: Environment): Promise<ObjectStore> {
  if (!/\.ya?ml$/.test(run)) return objectStoreAt(run, environment);
  const config = await loadRunConfig(run, configReaderOf(environment));
  return objectStoreOf(config, config.output);
}
