/** Compares evaluated runs side by side, on the same test rows. */

import type { ObjectStore } from '../../shared/storage/object-store.js';
import {
  compareRuns,
  ComparisonReportSchema,
  type ChosenRun,
  type ComparisonReport,
} from '../scoring/compare-runs.js';
import { parseRunArgument, readEvaluatedRun } from '../scoring/evaluated-run.js';
import { comparisonDocument } from '../reports/comparison-document.js';
import { asPage } from '../reports/document/as-page.js';
import { runConfigOf } from './config-sources.js';
import { loggedRun } from './logged-run.js';
import { objectStoreAt, s3OptionsIn } from './places.js';
import type { RequestOf } from './requests.js';
import type { Environment, RunContext } from './run-context.js';
import { joinAddress, objectStoreOf } from './run-files.js';

type CompareOrder = RequestOf<'compare'>;

/** The page, the JSON and the log of events are written when the request says where to. */
export async function compareEvaluated(
  request: CompareOrder,
  context: RunContext,
): Promise<ComparisonReport> {
  const { out } = request;
  if (out === undefined) return compared(request, context);
  const logged = { call: 'compare', run: null, output: out, s3: s3OptionsIn(context.environment) };
  return loggedRun(logged, context, (inner) => compared(request, inner));
}

async function compared(
  { runs, out, sizeBucketEdges, segment }: CompareOrder,
  { environment, sink, signal }: RunContext,
): Promise<ComparisonReport> {
  const chosen: ChosenRun[] = [];
  for (const text of runs) {
    signal.throwIfAborted();
    const { run, arm } = parseRunArgument(text);
    const store = await storeOfRun(run, environment);
    chosen.push({ evaluated: await readEvaluatedRun(store, segment ?? null), arm });
  }
  signal.throwIfAborted();
  const report = compareRuns(chosen, sizeBucketEdges);
  if (out === undefined) return report;
  const folder = objectStoreAt(out, environment);
  const json = Buffer.from(`${JSON.stringify(ComparisonReportSchema.parse(report), null, 2)}\n`);
  await folder.put('comparison.json', json, { kind: 'always' });
  await folder.put('comparison.html', Buffer.from(asPage(comparisonDocument(report))), {
    kind: 'always',
  });
  sink({ kind: 'report-written', address: joinAddress(out, 'comparison.html') });
  return report;
}

/** A config names the output of its run, and how to reach it. */
async function storeOfRun(run: string, environment: Environment): Promise<ObjectStore> {
  if (!/\.ya?ml$/.test(run)) return objectStoreAt(run, environment);
  const config = await runConfigOf(run, environment);
  return objectStoreOf(config, config.output);
}
