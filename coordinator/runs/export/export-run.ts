/** Exports a trained run: opens what it needs, writes the bundle, and moves a label to it. */

import type { z } from 'zod';
import { QianmoError } from '../../../shared/base/errors.js';
import { moveLabel } from '../../../shared/bundle/bundle-labels.js';
import { whileWriting } from '../../../shared/bundle/bundle-writers.js';
import type { BundleServing } from '../../../shared/bundle/bundle-manifest.js';
import { metaParametersDigest } from '../../../shared/models/meta-parameters-digest.js';
import { probeConditionalWrites } from '../../../shared/storage/object-store.js';
import { labelsOf } from '../../../shared/tasks/task-label.js';
import type { TaskStore } from '../../../shared/tasks/task-store.js';
import {
  exportBundle,
  type ExportedBundle,
  type ExportSource,
} from '../../export/export-bundle.js';
import { servingOf } from '../../export/serving-choice.js';
import type { PreparedRun } from '../../plan/prepared-run.js';
import { fileOfSegment, parseReport, REPORT_FILE } from '../../scoring/report-json.js';
import type { EvaluationReport } from '../../scoring/evaluation-report.js';
import { decodeTestLogits, TEST_LOGITS_KEY, type TestLogits } from '../../scoring/test-logits.js';
import { interruptedAs } from '../run-handle.js';
import type { RunContext } from '../run-context.js';
import { chosenConfigOf } from '../config-sources.js';
import { dispatchForRun, openedBesideStart } from '../dispatch-for-run.js';
import { loggedCallOf, loggedRun } from '../logged-run.js';
import type { ExportRequestSchema } from '../requests.js';
import {
  joinAddress,
  objectStoreOf,
  openStoreAsPrepared,
  preparedRunOn,
  savedMetaParametersOf,
} from '../run-files.js';
import { writesUnconditional } from '../../../coordinator/runs/run-files.js';

export interface ExportResult extends ExportedBundle {
  /** Where the bundles are. */
  readonly bundles: string;
  readonly label: string;
}

export async function exportRun(
  request: z.output<typeof ExportRequestSchema>,
  context: RunContext,
): Promise<ExportResult> {
  const config = await chosenConfigOf(request.config, context.environment);
  const bundles = request.out ?? joinAddress(config.output, 'bundles');
  return loggedRun(loggedCallOf('export', config), context, async (logged) => {
    const [source, { dispatcher }] = await openedBesideStart(
      logged,
      async () => {
        const store = await openStoreAsPrepared(config, logged);
        return sourceOf(preparedRunOn(store, config), store, logged);
      },
      (starting) =>
        dispatchForRun(config, { runId: config.run, mayTrain: false }, request, starting),
    );
    const objects = objectStoreOf(config, bundles, logged);
    if (!(await probeConditionalWrites(objects))) logged.sink(writesUnconditional(objects.address));
    const compute = await logged.machine.openCompute(logged, config.compute);
    const surroundings = { objects, dispatcher, compute, caller: logged };
    return whileWriting(objects, async () => {
      const exported = await interruptedAs(exportBundle(source, request, surroundings), () =>
        stoppedExport(bundles),
      );
      await moveLabel(objects, request.label, exported.digest);
      return { ...exported, bundles, label: request.label };
    });
  });
}

export function stoppedExport(bundles: string): {
  readonly what: string;
  readonly where: string;
  readonly cure: string;
} {
  return {
    what: 'the export was stopped before the bundle was published',
    where: bundles,
    cure: 'run the same command again; adgroups that were adapted are kept',
  };
}

async function sourceOf(
  run: PreparedRun,
  store: TaskStore,
  context: RunContext,
): Promise<ExportSource> {
  const { config } = run;
  const trained = await trainedSourceOf(run, store, context);
  const digest = metaParametersDigest(trained.parameters);
  const serving: BundleServing[] = [];
  const testLogits: (TestLogits | null)[] = [];
  for (const { segment } of labelsOf(store.manifest)) {
    const { report, where, logits } = await evaluationOf(run, segment);
    const { method } = config;
    const made = { metaDigest: digest, storeDigest: store.digest, method, where };
    serving.push(servingOf(report, made));
    const isOfThis = report?.run.metaDigest === digest && report.run.storeDigest === store.digest;
    testLogits.push(isOfThis ? logits : null);
  }
  return { ...trained, serving, testLogits };
}

/** What an export needs that no evaluation has a part in. */
export async function trainedSourceOf(
  run: PreparedRun,
  store: TaskStore,
  context: RunContext,
): Promise<Omit<ExportSource, 'serving' | 'testLogits'>> {
  const saved = await savedMetaParametersOf(run, context);
  if (saved === null)
    throw new QianmoError({
      kind: 'usage',
      what: 'the run has no checkpoint to export',
      where: joinAddress(run.config.output, 'checkpoints'),
      cure: 'train it first: qianmo train run.yaml',
    });
  return {
    ...{ run, store },
    parameters: saved.metaParameters,
    checkpoint: {
      ...{ outerStep: saved.outerStep, digest: metaParametersDigest(saved.trained) },
      fingerprints: saved.computedOn.map(({ fingerprint }) => fingerprint),
      ...(saved.earlierStores.length === 0 ? {} : { earlierStores: [...saved.earlierStores] }),
    },
    columns: (await store.readColumnTypes?.()) ?? {},
  };
}

interface FoundEvaluation {
  readonly report: EvaluationReport | null;
  readonly where: string;
  readonly logits: TestLogits | null;
}

/** The evaluation of a segment's adgroups in the output of the run. */
async function evaluationOf(
  { config }: PreparedRun,
  segment: string | null,
): Promise<FoundEvaluation> {
  const output = objectStoreOf(config, config.output);
  const key = fileOfSegment(REPORT_FILE, segment);
  const where = joinAddress(config.output, key);
  const json = await output.get(key);
  if (json === null) return { report: null, where, logits: null };
  const report = parseReport(Buffer.from(json.bytes).toString('utf8'), where);
  const logitsKey = fileOfSegment(TEST_LOGITS_KEY, segment);
  const bytes = report.testLogits === undefined ? null : await output.get(logitsKey);
  const logits = bytes === null ? null : decodeTestLogits(bytes.bytes, logitsKey);
  return { report, where, logits };
}
