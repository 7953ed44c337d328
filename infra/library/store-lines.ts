/** A prepared store in a few lines. */

import type { prepareRun } from '../../coordinator/runs/prepare-run.js';
import { counted } from '../../shared/names/counted.js';

type PreparedStore = Awaited<ReturnType<typeof prepareRun>>;

const count = (value: number): string => value.toLocaleString('en');
const countOf = (value: number, noun: string): string => counted(value, noun, count(value));

export function storeLines({ store, manifest }: PreparedStore): string {
  const { train, validation, test } = manifest.taskCountBySplit;
  const features = manifest.features.map((feature) =>
    'rowCount' in feature ? `${feature.name} (${count(feature.rowCount)} ids)` : feature.name,
  );
  return [
    `task store ${store}`,
    `  tasks:    ${count(manifest.taskCount)} (${count(train)} train, ${count(validation)} validation, ${count(test)} test)`,
    `  rows:     ${count(manifest.rowCount)}, rejected ${count(manifest.rejectedRowCount)}`,
    ...leftOutLines(manifest),
    ...(manifest.trunk === undefined
      ? []
      : [
          `  trunk:    ${count(manifest.trunk.rowCount)} of the rows train the trunk only, ` +
            `${count(manifest.trunk.smallTaskRowCount)} of them those of ${countOf(manifest.trunk.smallTaskCount, 'small task')}`,
        ]),
    `  features: ${features.join(', ')}`,
  ].join('\n');
}

/** The rows that are neither stored nor rejected, by the field of the config that leaves them out. */
function leftOutLines({ leftOut }: Pick<PreparedStore['manifest'], 'leftOut'>): string[] {
  const { filteredRowCount, tooSmallRowCount, tooSmallTaskCount } = leftOut ?? {};
  const reasons: readonly (readonly [number | undefined, string])[] = [
    [filteredRowCount, 'for which data.where is not true'],
    [
      tooSmallRowCount,
      `of ${countOf(tooSmallTaskCount ?? 0, 'task')} below supportRowsMin or queryRowsMin`,
    ],
    [leftOut?.cappedRowCount, 'beyond supportRowsMax or queryRowsMax of their task'],
    [leftOut?.unplacedRowCount, 'that data.splitFile does not name'],
  ];
  return reasons.flatMap(([rowCount = 0, reason]) =>
    rowCount === 0 ? [] : [`  left out: ${countOf(rowCount, 'row')} ${reason}`],
  );
}
