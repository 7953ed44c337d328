/** Exports what has changed of a run since a bundle: a delta that the label of the bundle is moved to. */

import type { z } from 'zod';
import { QianmoError } from '../../../shared/base/errors.js';
import { LATEST_LABEL, moveLabel, readLabel } from '../../../shared/bundle/bundle-labels.js';
import { readBundleManifest, type PublishedBundle } from '../../../shared/bundle/bundle-store.js';
import { whileWriting } from '../../../shared/bundle/bundle-writers.js';
import { readAnyBundle } from '../../../shared/bundle/delta/read-any-bundle.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import { changedSince } from '../../../shared/tasks/store-versions.js';
import type { TaskEntry, TaskStore } from '../../../shared/tasks/task-store.js';
import { exportDelta, type ExportedDelta } from '../../export/delta/export-delta.js';
import { interruptedAs } from '../call/interruption.js';
import type { RunContext } from '../call/run-context.js';
import { runConfigOf } from '../config-sources.js';
import { dispatchForRun } from '../dispatch-for-run.js';
import { loggedCallOf, loggedRun } from '../logged-run.js';
import type { ExportChangedRequestSchema } from '../requests.js';
import { joinAddress, objectStoreOf, openStoreAsPrepared, preparedRunOn } from '../run-files.js';
import { stoppedExport, trainedSourceOf } from './export-run.js';

type ExportChangedRequest = z.output<typeof ExportChangedRequestSchema>;

export interface ChangedExport {
  /** The bundle that the label points at now. */
  readonly digest: string;
  readonly bundles: string;
  readonly label: string;
  /** The digest of the bundle that was changed. */
  readonly base: string;
  /** Null if nothing has changed since that bundle, which is then kept. */
  readonly delta: ExportedDelta | null;
}

export async function exportChangedRun(
  request: ExportChangedRequest,
  context: RunContext,
): Promise<ChangedExport> {
  const config = await runConfigOf(request.config, context.environment);
  return loggedRun(loggedCallOf(config), context, (logged) =>
    changedExport(config, request, logged),
  );
}

export async function changedExport(
  config: RunConfig,
  request: Omit<ExportChangedRequest, 'config'>,
  context: RunContext,
): Promise<ChangedExport> {
  const bundles = request.out ?? joinAddress(config.output, 'bundles');
  const objects = objectStoreOf(config, bundles);
  const store = await openStoreAsPrepared(config, context);
  const run = preparedRunOn(store, config);
  const published = await bundleToChange(objects, request.label);
  const isChanged = changedSinceBundle(store, published, objects);
  const trained = await trainedSourceOf(run, store, context);
  const source = { ...trained, serving: published.manifest.serving, testLogits: [] };
  const place = { bundles, label: request.label, base: published.digest };
  const isAnyChanged = store.tasks.some(isChanged);
  const isSameTrunk = published.manifest.provenance.checkpoint.digest === trained.checkpoint.digest;
  if (!isAnyChanged && isSameTrunk) {
    await moveLabel(objects, request.label, published.digest);
    return { ...place, digest: published.digest, delta: null };
  }
  const loaded = await readAnyBundle(objects, published.digest);
  const { dispatcher } = await dispatchForRun(config, config.run, request, context);
  const compute = await context.machine.openCompute(context);
  const surroundings = { objects, dispatcher, compute, caller: context };
  return whileWriting(objects, async () => {
    const delta = await interruptedAs(
      exportDelta(source, { published, loaded }, isChanged, surroundings),
      () => stoppedExport(bundles),
    );
    const digest = delta?.digest ?? published.digest;
    await moveLabel(objects, request.label, digest);
    return { ...place, digest, delta };
  });
}

/** The bundle of the label, or the latest one if the label is a new one. */
async function bundleToChange(objects: ObjectStore, label: string): Promise<PublishedBundle> {
  const found = (await readLabel(objects, label)) ?? (await readLabel(objects, LATEST_LABEL));
  if (found !== null) return readBundleManifest(objects, found.bundle);
  throw new QianmoError({
    kind: 'usage',
    what: 'there is no bundle that could be changed',
    where: objects.address,
    expected: `a bundle with the label ${label} or ${LATEST_LABEL}`,
    cure: 'export the run in full first: qianmo export run.yaml',
  });
}

function changedSinceBundle(
  store: TaskStore,
  { digest, manifest }: PublishedBundle,
  objects: ObjectStore,
): (task: TaskEntry) => boolean {
  const { storeDigest } = manifest.provenance;
  const isChanged = changedSince(store, storeDigest);
  if (isChanged !== null) return isChanged;
  throw new QianmoError({
    kind: 'usage',
    what: 'the bundle was made of another task store, so what has changed is not known',
    where: `${objects.address}@${digest}`,
    expected: `a store that was ${store.digest.slice(0, 12)} or one that logs were appended to since`,
    found: storeDigest.slice(0, 12),
    cure: 'export the run in full: leave out --only-changed',
  });
}
