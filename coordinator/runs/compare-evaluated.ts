/** Compares evaluated runs side by side, on the same test rows. */

import type { z } from 'zod';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { compareRuns, type ChosenRun } from '../comparison/compare-runs.js';
import { comparisonJson, type ComparisonReport } from '../comparison/comparison-report.js';
import { parseRunArgument, readEvaluatedRun } from '../comparison/evaluated-run.js';
import { comparisonHtml } from '../reports/comparison/comparison-page.js';
import { runConfigOf } from './config-sources.js';
import { objectStoreAt } from './places.js';
import type { CompareRequestSchema } from './requests.js';
import type { Environment, RunContext } from './call/run-context.js';
import { joinAddress, objectStoreOf } from './run-files.js';

/** The page and the JSON are written when the request says where to. */
export async function compareEvaluated(
  { runs, out, sizeBucketEdges, segment }: z.output<typeof CompareRequestSchema>,
  { environment, sink }: RunContext,
): Promise<ComparisonReport> {
  const chosen: ChosenRun[] = [];
  for (const text of runs) {
    const { run, arm } = parseRunArgument(text);
    const store = await storeOfRun(run, environment);
    chosen.push({ evaluated: await readEvaluatedRun(store, segment ?? null), arm });
  }
  const report = compareRuns(chosen, sizeBucketEdges === undefined ? {} : { sizeBucketEdges });
  if (out === undefined) return report;
  const folder = objectStoreAt(out, environment);
  const json = Buffer.from(`${comparisonJson(report)}\n`);
  await folder.put('comparison.json', json, { kind: 'always' });
  await folder.put('comparison.html', Buffer.from(comparisonHtml(report)), { kind: 'always' });
  sink({ kind: 'report-written', address: joinAddress(out, 'comparison.html') });
  return report;
}

/** A config names the output of its run, and how to reach it. */
async function storeOfRun(run: string, environment: Environment): Promise<ObjectStore> {
  if (!/\.ya?ml$/.test(run)) return objectStoreAt(run, environment);
  const config = await runConfigOf(run, environment);
  return objectStoreOf(config, config.output);
}
