/** Exports of runs as bundles, and the upkeep of bundles, as functions of the library. */

import type { PrunedBundles } from '../../coordinator/export/prune-bundles.js';
import type { CallOptions, RunHandle } from '../../coordinator/runs/call/run-handle.js';
import type { ChangedExport } from '../../coordinator/runs/export/export-changed-run.js';
import type { ExportResult } from '../../coordinator/runs/export/export-run.js';
import type { RefreshResult } from '../../coordinator/runs/export/refresh-run.js';
import {
  BundleLabelRequestSchema,
  BundleRollbackRequestSchema,
  BundlesRequestSchema,
  checkedRequest,
  ExportChangedRequestSchema,
  ExportRequestSchema,
  PruneRequestSchema,
  RefreshRequestSchema,
  type BundleLabelRequest,
  type BundleRollbackRequest,
  type BundlesRequest,
  type ExportChangedRequest,
  type ExportRequest,
  type PruneRequest,
  type RefreshRequest,
} from '../../coordinator/runs/requests.js';
import type { BundleLabel } from '../../shared/bundle/bundle-labels.js';
import type { ListedBundle, PublishedBundle } from '../../shared/bundle/bundle-store.js';
import type { ConvertedModel, ConvertRequest } from './convert-bundle.js';
import { start } from './started-call.js';

/**
 * Adapts every adgroup of an evaluated run and writes a bundle for ranking servers. What an export that
 * was stopped has adapted is kept for the next one.
 */
export function exportRun(
  request: ExportRequest,
  options: CallOptions = {},
): RunHandle<ExportResult> {
  return start(options, async (context) => {
    const exporting = await import('../../coordinator/runs/export/export-run.js');
    const checked = checkedRequest(ExportRequestSchema, request, 'exportRun');
    return exporting.exportRun(checked, context);
  });
}

/** The bundles under an address, the last published first. */
export function listBundles(
  request: BundlesRequest,
  options: CallOptions = {},
): RunHandle<readonly ListedBundle[]> {
  return start(options, async (context) => {
    const { listBundlesAt } = await import('../../coordinator/runs/export/manage-bundles.js');
    return listBundlesAt(checkedRequest(BundlesRequestSchema, request, 'listBundles'), context);
  });
}

/** Reads every file of a bundle and checks it. `bundles` is `ADDRESS`, or `ADDRESS@LABEL`. */
export function checkBundle(
  request: BundlesRequest,
  options: CallOptions = {},
): RunHandle<PublishedBundle> {
  return start(options, async (context) => {
    const { checkedBundle } = await import('../../coordinator/runs/export/manage-bundles.js');
    return checkedBundle(checkedRequest(BundlesRequestSchema, request, 'checkBundle'), context);
  });
}

/** Writes the model of a bundle for other servers, as ONNX or as a SavedModel. */
export function convertBundle(
  request: ConvertRequest,
  options: CallOptions = {},
): RunHandle<ConvertedModel> {
  return start(options, async (context) => {
    const { convertedBundle, ConvertRequestSchema } = await import('./convert-bundle.js');
    return convertedBundle(checkedRequest(ConvertRequestSchema, request, 'convertBundle'), context);
  });
}

/** Points a label at a bundle. */
export function labelBundle(
  request: BundleLabelRequest,
  options: CallOptions = {},
): RunHandle<BundleLabel> {
  return start(options, async (context) => {
    const managing = await import('../../coordinator/runs/export/manage-bundles.js');
    const checked = checkedRequest(BundleLabelRequestSchema, request, 'labelBundle');
    return managing.labelBundle(checked, context);
  });
}

/** Points a label at the bundle that it pointed at before. */
export function rollBackBundle(
  request: BundleRollbackRequest,
  options: CallOptions = {},
): RunHandle<BundleLabel> {
  return start(options, async (context) => {
    const managing = await import('../../coordinator/runs/export/manage-bundles.js');
    const checked = checkedRequest(BundleRollbackRequestSchema, request, 'rollBackBundle');
    return managing.rollBackBundle(checked, context);
  });
}

/**
 * Adapts the adgroups whose rows have changed since the bundle of a label, and moves the label to a bundle
 * that has the other blocks of that one.
 */
export function exportChanged(
  request: ExportChangedRequest,
  options: CallOptions = {},
): RunHandle<ChangedExport> {
  return start(options, async (context) => {
    const exporting = await import('../../coordinator/runs/export/export-changed-run.js');
    const checked = checkedRequest(ExportChangedRequestSchema, request, 'exportChanged');
    return exporting.exportChangedRun(checked, context);
  });
}

/**
 * Appends new logs to the task store of a run, adapts the adgroups that have new rows, and moves the label
 * to a new bundle. Logs that are there already are passed over.
 */
export function refresh(
  request: RefreshRequest,
  options: CallOptions = {},
): RunHandle<RefreshResult> {
  return start(options, async (context) => {
    const { refreshRun } = await import('../../coordinator/runs/export/refresh-run.js');
    return refreshRun(checkedRequest(RefreshRequestSchema, request, 'refresh'), context);
  });
}

/** Removes bundles that no label names, and files that no bundle has. */
export function pruneBundles(
  request: PruneRequest,
  options: CallOptions = {},
): RunHandle<PrunedBundles> {
  return start(options, async (context) => {
    const managing = await import('../../coordinator/runs/export/manage-bundles.js');
    const checked = checkedRequest(PruneRequestSchema, request, 'pruneBundles');
    return managing.pruneBundlesAt(checked, context);
  });
}
