/** An export and bundles as text for a terminal, and as JSON for programs. */

import type { EncodingLoss } from '../export/encoding-losses.js';
import type { ExportedBundle } from '../export/export-bundle.js';
import type { BundleLabel } from '../../shared/bundle/bundle-labels.js';
import {
  byteCountOf,
  type ListedBundle,
  type PublishedBundle,
} from '../../shared/bundle/bundle-store.js';
import type { BundleCalibration, DeltaManifest } from '../../shared/bundle/bundle-manifest.js';
import { counted } from '../../shared/names/counted.js';
import { textTable } from './table.js';

/** An export with the address of its bundles and the label that points at it. */
export interface PlacedExport extends ExportedBundle {
  readonly bundles: string;
  readonly label: string;
}

export function exportJson({ manifest, ...found }: PlacedExport): string {
  const { blocks, calibrations, serving, unknown } = manifest;
  const adgroupCount = blocks.count - 1;
  const facts = { adgroupCount, byteCount: byteCountOf(manifest), blocks, serving, unknown };
  return JSON.stringify({ ...found, ...facts, calibrations }, null, 2);
}

export function exportText(found: PlacedExport, outputColumns: number): string {
  const { manifest, digest, bundles, label, encodings, evaluatedDifferenceMax } = found;
  const { blocks } = manifest;
  const kept = found.keptAdgroupCount;
  const lines = [
    `bundle     ${digest}`,
    `where      ${bundles}@${label}`,
    `adgroups   ${blocks.count - 1}${kept === 0 ? '' : `, ${kept} of them adapted by an earlier export`}`,
    `size       ${bytesText(byteCountOf(manifest))}, blocks ${blocks.encoding} of ${blocks.strideByteCount} bytes`,
    `unknown    ${manifest.unknown.block === 'initial' ? 'the initial blocks' : 'what the method starts from without support rows'}`,
    `self-check ${counted(found.selfCheckRowCount, 'row')}`,
    ...(evaluatedDifferenceMax === null
      ? []
      : [`evaluated  outputs differ by ${evaluatedDifferenceMax.toExponential(1)} at most`]),
  ];
  return [
    lines.join('\n'),
    encodingsTable(encodings, found.measuredRowCount, outputColumns),
    calibrationsTable(manifest.calibrations, outputColumns),
  ].join('\n\n');
}

function encodingsTable(
  encodings: readonly EncodingLoss[],
  rowCount: number,
  outputColumns: number,
): string {
  const exact = encodings.find(({ encoding }) => encoding === 'float32')?.loss ?? null;
  return textTable(
    {
      columns: [
        { title: 'encoding', alignment: 'left' },
        { title: 'bytes', unit: 'a block' },
        { title: 'loss', unit: counted(rowCount, 'row') },
        { title: 'difference' },
        { title: 'output change', unit: 'at most' },
      ],
      rows: encodings.map(({ encoding, blockByteCount, loss, outputChangeMax }) => [
        encoding,
        String(blockByteCount),
        loss === null ? '-' : loss.toFixed(6),
        loss === null || exact === null ? '-' : (loss - exact).toExponential(1),
        outputChangeMax === null ? '-' : outputChangeMax.toExponential(1),
      ]),
    },
    outputColumns,
  );
}

function calibrationsTable(
  calibrations: readonly BundleCalibration[],
  outputColumns: number,
): string {
  const sizeOf = ({
    of,
    supportRowCountMin: least,
    supportRowCountMax: most,
  }: BundleCalibration) =>
    of === 'unknown' ? 'unknown' : most === null ? `>= ${least}` : `${least}-${most}`;
  return textTable(
    {
      columns: [
        { title: 'calibration', unit: 'support rows', alignment: 'left' },
        { title: 'label' },
        { title: 'slope' },
        { title: 'offset' },
        { title: 'adgroups', unit: 'validation' },
        { title: 'impressions' },
      ],
      rows: calibrations.map((each) => [
        sizeOf(each),
        String(each.label),
        each.slope.toFixed(3),
        each.offset.toFixed(3),
        String(each.adgroupCount),
        String(Math.round(each.impressions)),
      ]),
    },
    outputColumns,
  );
}

export function bundleListText(bundles: readonly ListedBundle[], outputColumns: number): string {
  if (bundles.length === 0) return 'no bundles';
  return textTable(
    {
      columns: [
        { title: 'bundle', alignment: 'left' },
        { title: 'run', alignment: 'left' },
        { title: 'outer step' },
        { title: 'adgroups' },
        { title: 'size' },
        { title: 'published', isOptional: true },
        { title: 'labels', alignment: 'left' },
      ],
      rows: bundles.map(({ digest, manifest, byteCount, publishedMs, labels }) => [
        digest.slice(0, 12),
        manifest.provenance.run,
        String(manifest.provenance.checkpoint.outerStep),
        String(manifest.blocks.count - 1),
        bytesText(byteCount),
        new Date(publishedMs).toISOString().slice(0, 19),
        labels.join(', '),
      ]),
    },
    outputColumns,
  );
}

export function bundleListJson(bundles: readonly ListedBundle[]): string {
  return JSON.stringify(
    bundles.map(({ digest, manifest, ...found }) => ({
      ...{ digest, ...found, adgroupCount: manifest.blocks.count - 1 },
      provenance: manifest.provenance,
    })),
    null,
    2,
  );
}

/** A bundle whose files were all read and checked. */
export function bundleText({ digest, manifest }: PublishedBundle, outputColumns: number): string {
  const { provenance, blocks, arrays } = manifest;
  const lines = [
    `bundle      ${digest}`,
    `run         ${provenance.run}, outer step ${provenance.checkpoint.outerStep}`,
    `parameters  ${provenance.checkpoint.digest}`,
    `task store  ${provenance.storeDigest}`,
    `model       ${manifest.model.kind}, adapted by ${manifest.method.kind}`,
    ...('delta' in manifest ? [deltaLine(manifest.delta)] : []),
    `adgroups    ${blocks.count - 1}, blocks ${blocks.encoding} of ${blocks.strideByteCount} bytes`,
    `size        ${bytesText(byteCountOf(manifest))} in ${arrays.length} arrays`,
    'checked     every file has the digest that the manifest says',
  ];
  return `${lines.join('\n')}\n\n${calibrationsTable(manifest.calibrations, outputColumns)}`;
}

function deltaLine({ base, depth, ...counts }: DeltaManifest['delta']): string {
  const { changedAdgroupCount, newAdgroupCount } = counts;
  return `delta       ${changedAdgroupCount} changed and ${newAdgroupCount} new adgroups over ${base.slice(0, 12)}, depth ${depth}`;
}

/** A model that was written for other servers. */
export function convertedText({
  format,
  folder,
  bundle,
}: {
  readonly format: string;
  readonly folder: string;
  readonly bundle: string;
}): string {
  return [`bundle  ${bundle}`, `format  ${format}`, `where   ${folder}`].join('\n');
}

export function labelText({ name, bundle, earlier }: BundleLabel): string {
  const before = earlier[0] === undefined ? '' : ` (before: ${earlier[0].slice(0, 12)})`;
  return `${name} -> ${bundle}${before}`;
}

export function bytesText(byteCount: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, byteCount)) / 10));
  const value = byteCount / 1024 ** power;
  return `${power === 0 ? String(value) : value.toFixed(1)} ${units[power] ?? ''}`;
}
