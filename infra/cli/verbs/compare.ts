/** `qianmo compare`: evaluated runs side by side, on the same test rows. */

import { z } from 'zod';
import { compareRuns, type ChosenRun } from '../../../coordinator/comparison/compare-runs.js';
import { comparisonHtml } from '../../../coordinator/comparison/comparison-html.js';
import { comparisonJson } from '../../../coordinator/comparison/comparison-report.js';
import { comparisonTable } from '../../../coordinator/comparison/comparison-table.js';
import {
  parseRunArgument,
  readEvaluatedRun,
} from '../../../coordinator/comparison/evaluated-run.js';
import { loadRunConfig } from '../../../shared/config/load-run-config.js';
import { StorageConfigSchema } from '../../../shared/config/run-config.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import { openObjectStore, s3OptionsOf } from '../../../shared/storage/open-object-store.js';
import type { CommandContext } from '../command-context.js';
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
  const out = storeAt(options.out, context.environment);
  await out.put('comparison.json', Buffer.from(`${comparisonJson(report)}\n`), { kind: 'always' });
  await out.put('comparison.html', Buffer.from(comparisonHtml(report)), { kind: 'always' });
  context.sink({
    kind: 'notice',
    message: `report: ${joinAddress(options.out, 'comparison.html')}`,
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
  if (!/\.ya?ml$/.test(run)) return storeAt(run, environment);
  const config = await loadRunConfig(run);
  return objectStoreOf(config, config.output);
}

/** An address given by itself: S3 is reached as the environment says, in the SDK's own words. */
function storeAt(address: string, environment: Environment): ObjectStore {
  const region = environment['AWS_REGION'];
  const endpoint = environment['AWS_ENDPOINT_URL_S3'] ?? environment['AWS_ENDPOINT_URL'];
  return openObjectStore(address, {
    ...s3OptionsOf(StorageConfigSchema.parse({})),
    ...(region === undefined ? {} : { region }),
    ...(endpoint === undefined ? {} : { endpoint }),
  });
}
