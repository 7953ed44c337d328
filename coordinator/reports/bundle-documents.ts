/** Exports, refreshes and bundles as documents. */

import {
  type BundleLabel,
  byteCountOf,
  type ListedBundle,
  type PublishedBundle,
} from '../../shared/bundle/bundle-store.js';
import { adgroupCountOf } from '../../shared/bundle/bundle-manifest.js';
import type { BundleCalibration } from '../../shared/bundle/calibration.js';
import { counted } from '../../shared/names/counted.js';
import type { ExportedChanges, ExportedBundle } from '../export/export-bundle.js';
import type { PrunedBundles } from '../export/prune-bundles.js';
import {
  columnsOf,
  fieldsBlock,
  leftColumn,
  tableBlock,
  textBlock,
  type Block,
  type Document,
} from './document/document.js';

type Fields = Parameters<typeof fieldsBlock>[0];

function fieldsDocument(data: unknown, fields: Fields, ...blocks: readonly Block[]): Document {
  return { data, blocks: [fieldsBlock(fields), ...blocks] };
}

/** An export with the address of its bundles and the label that points at it. */
interface PlacedExport extends ExportedBundle {
  readonly bundles: string;
  readonly label: string;
}

export function exportDocument(exported: PlacedExport): Document {
  const { manifest, digest, bundles, label, evaluatedDifferenceMax } = exported;
  const { blocks, calibrations, serving, unknown } = manifest;
  const { manifest: _manifest, ...facts } = exported;
  const [adgroupCount, byteCount] = [adgroupCountOf(manifest), byteCountOf(manifest)];
  return fieldsDocument(
    { ...facts, adgroupCount, byteCount, blocks, serving, unknown, calibrations },
    [
      ['bundle', digest],
      ['where', `${bundles}@${label}`],
      ['adgroups', `${adgroupCount}${earlierText(exported.keptAdgroupCount)}`],
      [
        'size',
        `${bytesText(byteCount)}, blocks ${blocks.encoding} of ${blocks.strideByteCount} bytes`,
      ],
      [
        'unknown',
        unknown.block === 'initial'
          ? 'the initial blocks'
          : 'the blocks that the method starts from without support rows',
      ],
      ['self-check', counted(exported.selfCheckRowCount, 'row')],
      [
        'evaluated',
        evaluatedDifferenceMax === null
          ? null
          : `outputs differ by ${evaluatedDifferenceMax.toExponential(1)} at most`,
      ],
    ],
    calibrationsTable(calibrations),
  );
}

function earlierText(adgroupCount: number): string {
  return adgroupCount === 0 ? '' : `, ${adgroupCount} of them adapted by an earlier export`;
}

/** A row of each label without evidence, and one of each knot. */
function calibrationsTable(calibrations: readonly BundleCalibration[]): Block {
  const rows = calibrations.flatMap((each, label) => {
    const { slope, offset, withoutClick, clicks, adgroupCount, impressions } = each;
    const rowOf = (evidence: string, added: number): string[] => [
      ...[evidence, String(label), slope.toFixed(3), (offset + added).toFixed(3)],
      ...[String(adgroupCount), String(Math.round(impressions))],
    ];
    return [
      rowOf('none', 0),
      ...withoutClick.map(({ count, effect }) => rowOf(`${count} without a click`, effect)),
      ...clicks.map(({ count, effect }) => rowOf(counted(count, 'click'), effect)),
    ];
  });
  return tableBlock('Calibrations', {
    columns: [
      leftColumn('calibration', 'evidence'),
      ...columnsOf('label', 'slope', 'offset'),
      { title: 'adgroups', unit: 'validation' },
      { title: 'impressions' },
    ],
    rows,
  });
}

export function bundleListDocument(bundles: readonly ListedBundle[]): Document {
  const data = bundles.map(({ digest, manifest, ...facts }) => ({
    ...{ digest, ...facts, adgroupCount: adgroupCountOf(manifest) },
    provenance: manifest.provenance,
  }));
  if (bundles.length === 0) return { data, blocks: [textBlock('no bundles')] };
  const table = {
    columns: [
      ...columnsOf('<bundle', '<run', 'outer step', 'adgroups', 'size'),
      { title: 'published', isOptional: true },
      leftColumn('labels'),
    ],
    rows: bundles.map(({ digest, manifest, byteCount, publishedMs, labels }) => [
      digest.slice(0, 12),
      manifest.provenance.run,
      String(manifest.provenance.checkpoint.outerStep),
      String(adgroupCountOf(manifest)),
      bytesText(byteCount),
      new Date(publishedMs).toISOString().slice(0, 19),
      labels.join(', '),
    ]),
  };
  return { data, blocks: [tableBlock('Bundles', table)] };
}

/** A bundle whose files were all read and checked. */
export function bundleDocument(bundle: PublishedBundle): Document {
  const { digest, manifest } = bundle;
  const { provenance, blocks, arrays, calibrations } = manifest;
  return fieldsDocument(
    bundle,
    [
      ['bundle', digest],
      ['run', `${provenance.run}, outer step ${provenance.checkpoint.outerStep}`],
      ['parameters', provenance.checkpoint.digest],
      ['task store', provenance.storeDigest],
      ['model', `${manifest.model.kind}, adapted by ${manifest.method.kind}`],
      [
        'adgroups',
        `${adgroupCountOf(manifest)}, blocks ${blocks.encoding} of ${blocks.strideByteCount} bytes${deadText(blocks)}`,
      ],
      ['size', `${bytesText(byteCountOf(manifest))} in ${arrays.length} arrays`],
      ['checked', 'every file has the digest that the manifest states'],
    ],
    calibrationsTable(calibrations),
  );
}

/** Blocks that changed adgroups had before, and that are still in the files. */
function deadText({ deadCount = 0 }: PublishedBundle['manifest']['blocks']): string {
  return deadCount === 0 ? '' : `, and ${counted(deadCount, 'dead block')} of earlier exports`;
}

/** An export of changed adgroups, with the label that points at it. */
interface PlacedChanges {
  readonly digest: string;
  readonly bundles: string;
  readonly label: string;
  readonly base: string;
  /** Null if nothing had changed. */
  readonly changes: ExportedChanges | null;
}

function changesDocument(changed: PlacedChanges): Document {
  const { changes, ...place } = changed;
  const { digest, bundles, label, base } = place;
  if (changes === null)
    return {
      data: { ...place, changedAdgroupCount: 0, newAdgroupCount: 0 },
      blocks: [textBlock(`nothing has changed since bundle ${digest}, which ${label} points at`)],
    };
  const { manifest, ...facts } = changes;
  const { changedAdgroupCount, newAdgroupCount, keptAdgroupCount, grownTables } = facts;
  return fieldsDocument({ ...place, ...facts }, [
    ['bundle', digest],
    ['where', `${bundles}@${label}`],
    ['changes', base],
    [
      'adgroups',
      `${changedAdgroupCount} changed and ${newAdgroupCount} new of ${adgroupCountOf(manifest)}${earlierText(keptAdgroupCount)}`,
    ],
    [
      'size',
      `${bytesText(facts.newByteCount)} written, ${bytesText(byteCountOf(manifest))} with the files in common`,
    ],
    ['blocks', facts.isRewritten ? 'all written again, without those of earlier exports' : null],
    ['trunk', 'as before'],
    ['tables', grownTables.length === 0 ? 'as before' : `new rows in ${grownTables.join(', ')}`],
    ['self-check', counted(facts.selfCheckRowCount, 'row')],
  ]);
}

/** A refresh: logs appended, the trunk trained further or not, then stale adgroups exported. */
interface Refreshed extends PlacedChanges {
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

export function refreshDocument(refreshed: Refreshed): Document {
  const { append, knownFileCount, trained, full, changes, ...rest } = refreshed;
  const { appendMs, trainMs, exportMs, ...place } = rest;
  const exported =
    full === null ? changesDocument({ ...place, changes }) : fullDocument(place, full);
  const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;
  const known =
    knownFileCount === 0
      ? ''
      : `, ${counted(knownFileCount, 'file')} ${knownFileCount === 1 ? 'was' : 'were'} there already`;
  const training = trained === null ? '' : `${seconds(trainMs)} to train, `;
  const times = { append, knownFileCount, trained, appendMs, trainMs, exportMs };
  const done = trained && `outer steps ${trained.fromOuterStep + 1} to ${trained.toOuterStep}`;
  return fieldsDocument(
    { ...times, ...(exported.data as object) },
    [
      ['logs', `${append?.logRowCount ?? 0} new rows${known}`],
      ['trained', done],
      ['time', `${seconds(appendMs)} to append, ${training}${seconds(exportMs)} to export`],
    ],
    ...exported.blocks,
  );
}

function fullDocument(
  place: Omit<PlacedChanges, 'changes'>,
  { manifest, keptAdgroupCount, selfCheckRowCount }: ExportedBundle,
): Document {
  const { digest, bundles, label, base } = place;
  const [adgroupCount, byteCount] = [adgroupCountOf(manifest), byteCountOf(manifest)];
  const data = { digest, bundles, label, base, adgroupCount, keptAdgroupCount, byteCount };
  return fieldsDocument(data, [
    ['bundle', digest],
    ['where', `${bundles}@${label}`],
    ['instead of', base],
    [
      'adgroups',
      `all ${adgroupCount}, since the trunk has changed${earlierText(keptAdgroupCount)}`,
    ],
    ['size', bytesText(byteCount)],
    ['self-check', counted(selfCheckRowCount, 'row')],
  ]);
}

/** A model that was written for other servers. */
export function convertedDocument(written: {
  readonly format: string;
  readonly folder: string;
  readonly bundle: string;
}): Document {
  const { format, folder, bundle } = written;
  return fieldsDocument(written, [
    ['bundle', bundle],
    ['format', format],
    ['where', folder],
  ]);
}

export function labelDocument(moved: BundleLabel): Document {
  const { name, bundle, earlier, left, share } = moved;
  const named = (what: string, digest?: string): string[] =>
    digest === undefined ? [] : [`${what}: ${digest.slice(0, 12)}`];
  const ofShare = share === undefined ? [] : [`share: ${share}`];
  const others = [...named('before', earlier[0]), ...named('left', left[0]), ...ofShare].join(', ');
  const text = `${name} -> ${bundle}${others === '' ? '' : ` (${others})`}`;
  return { data: moved, blocks: [textBlock(text)] };
}

export function prunedDocument(pruned: PrunedBundles): Document {
  const { isDryRun, removedBundles, removedFileCount, removedByteCount } = pruned;
  const { keptBundleCount, keptFileCount } = pruned;
  return {
    data: pruned,
    blocks: [
      { kind: 'list', items: removedBundles.map((digest) => `bundle ${digest}`) },
      textBlock(
        `${isDryRun ? 'would remove' : 'removed'} ${counted(removedBundles.length, 'bundle')} and ${counted(removedFileCount, 'file')} ` +
          `(${bytesText(removedByteCount)}); kept ${counted(keptBundleCount, 'bundle')} and ${counted(keptFileCount, 'file')}`,
      ),
    ],
  };
}

function bytesText(byteCount: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, byteCount)) / 10));
  const value = byteCount / 1024 ** power;
  return `${power === 0 ? String(value) : value.toFixed(1)} ${units[power] ?? ''}`;
}
