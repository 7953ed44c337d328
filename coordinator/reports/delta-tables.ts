/** A delta, a compaction and a removal of bundles as text for a terminal, and as JSON for programs. */

import { byteCountOf } from '../../shared/bundle/bundle-store.js';
import { counted } from '../../shared/names/counted.js';
import type { ExportedBundle } from '../export/export-bundle.js';
import type { ExportedDelta } from '../export/delta/export-delta.js';
import type { CompactedBundle } from '../export/upkeep/compact-bundle.js';
import type { PrunedBundles } from '../export/upkeep/prune-bundles.js';
import { bytesText } from './bundle-tables.js';

/** An export of what has changed, with the label that points at it. */
interface PlacedDelta {
  readonly digest: string;
  readonly bundles: string;
  readonly label: string;
  readonly base: string;
  /** Null if nothing had changed. */
  readonly delta: ExportedDelta | null;
}

export function changedText({ digest, bundles, label, base, delta }: PlacedDelta): string {
  if (delta === null) return `nothing has changed since bundle ${digest}, which ${label} points at`;
  const { manifest, changedAdgroupCount, newAdgroupCount, keptAdgroupCount, grownTables } = delta;
  const kept = keptAdgroupCount === 0 ? '' : `, ${keptAdgroupCount} of them adapted earlier`;
  return [
    `bundle     ${digest}`,
    `where      ${bundles}@${label}`,
    `changes    ${base}`,
    `adgroups   ${changedAdgroupCount} changed and ${newAdgroupCount} new of ${manifest.blocks.count - 1}${kept}`,
    `size       ${bytesText(delta.newByteCount)} written, ${bytesText(byteCountOf(manifest))} with the files in common`,
    'trunk      as before',
    `tables     ${grownTables.length === 0 ? 'as before' : `new rows in ${grownTables.join(', ')}`}`,
    `self-check ${counted(delta.selfCheckRowCount, 'row')}`,
  ].join('\n');
}

export function changedJson(changed: PlacedDelta): string {
  return JSON.stringify(changedFacts(changed), null, 2);
}

function changedFacts({ delta, ...place }: PlacedDelta): object {
  if (delta === null) return { ...place, changedAdgroupCount: 0, newAdgroupCount: 0 };
  const { manifest, ...facts } = delta;
  const depth = 'delta' in manifest ? manifest.delta.depth : 0;
  return { ...place, ...facts, depth };
}

/** A refresh: logs appended, the trunk trained further or not, then what is stale exported. */
interface Refreshed extends PlacedDelta {
  /** Null unless the trunk has changed. */
  readonly full: ExportedBundle | null;
  readonly trained: { readonly fromOuterStep: number; readonly toOuterStep: number } | null;
  readonly trainMs: number;
  /** Null if all logs were in the store already. */
  readonly append: {
    readonly logRowCount: number;
    readonly changedTaskCount: number;
    readonly newTaskCount: number;
  } | null;
  readonly knownFileCount: number;
  readonly appendMs: number;
  readonly exportMs: number;
}

export function refreshText({ append, knownFileCount, ...rest }: Refreshed): string {
  const { appendMs, trainMs, exportMs, trained, full, ...placed } = rest;
  const known =
    knownFileCount === 0
      ? ''
      : `, ${counted(knownFileCount, 'file')} ${knownFileCount === 1 ? 'was' : 'were'} there already`;
  const rows = `${append?.logRowCount ?? 0} new rows${known}`;
  const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;
  const steps =
    trained === null
      ? []
      : [`trained    outer steps ${trained.fromOuterStep + 1} to ${trained.toOuterStep}`];
  const training = trained === null ? '' : `${seconds(trainMs)} to train, `;
  return [
    `logs       ${rows}`,
    ...steps,
    full === null ? changedText(placed) : fullText(placed, full),
    `time       ${seconds(appendMs)} to append, ${training}${seconds(exportMs)} to export`,
  ].join('\n');
}

function fullText({ digest, bundles, label, base }: PlacedDelta, full: ExportedBundle): string {
  const { manifest, keptAdgroupCount } = full;
  const kept = keptAdgroupCount === 0 ? '' : `, ${keptAdgroupCount} of them adapted earlier`;
  return [
    `bundle     ${digest}`,
    `where      ${bundles}@${label}`,
    `instead of ${base}`,
    `adgroups   all ${manifest.blocks.count - 1}, since the trunk has changed${kept}`,
    `size       ${bytesText(byteCountOf(manifest))}`,
    `self-check ${counted(full.selfCheckRowCount, 'row')}`,
  ].join('\n');
}

export function refreshJson(refreshed: Refreshed): string {
  const { append, knownFileCount, trained, full, appendMs, trainMs, exportMs, ...placed } =
    refreshed;
  const done = { append, knownFileCount, trained, appendMs, trainMs, exportMs };
  const exported =
    full === null
      ? changedFacts(placed)
      : {
          ...{
            digest: placed.digest,
            bundles: placed.bundles,
            label: placed.label,
            base: placed.base,
          },
          ...{
            adgroupCount: full.manifest.blocks.count - 1,
            keptAdgroupCount: full.keptAdgroupCount,
          },
          byteCount: byteCountOf(full.manifest),
        };
  return JSON.stringify({ ...done, ...exported }, null, 2);
}

export function compactedText({
  digest,
  deltaCount,
  movedLabels,
}: CompactedBundle & { readonly movedLabels: readonly string[] }): string {
  if (deltaCount === 0) return `bundle ${digest} has no deltas`;
  const moved = movedLabels.length === 0 ? '' : `, with the labels ${movedLabels.join(', ')}`;
  return `bundle ${digest} is made of ${counted(deltaCount, 'delta')} and their full bundle${moved}`;
}

export function prunedText({ isDryRun, removedBundles, ...counts }: PrunedBundles): string {
  const { removedFileCount, removedByteCount, keptBundleCount, keptFileCount } = counts;
  return [
    ...removedBundles.map((digest) => `bundle ${digest}`),
    `${isDryRun ? 'would remove' : 'removed'} ${counted(removedBundles.length, 'bundle')} and ${counted(removedFileCount, 'file')} (${bytesText(removedByteCount)}); kept ${counted(keptBundleCount, 'bundle')} and ${counted(keptFileCount, 'file')}`,
  ].join('\n');
}
