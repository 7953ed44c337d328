/** A prepared task store in a few lines. */

import type { PreparedStore } from '../../library/index.js';

export function storeLines({ store, manifest }: PreparedStore): string {
  const { train, validation, test } = manifest.taskCountBySplit;
  const count = (value: number): string => value.toLocaleString('en');
  const features = manifest.features.map((feature) =>
    'rowCount' in feature ? `${feature.name} (${count(feature.rowCount)} ids)` : feature.name,
  );
  return [
    `task store ${store}`,
    `  tasks:    ${count(manifest.taskCount)} (${count(train)} train, ${count(validation)} validation, ${count(test)} test)`,
    `  rows:     ${count(manifest.rowCount)}, rejected ${count(manifest.rejectedRowCount)}`,
    ...(manifest.trunk === undefined
      ? []
      : [
          `  trunk:    ${count(manifest.trunk.rowCount)} of the rows train the trunk only, ` +
            `${count(manifest.trunk.smallTaskRowCount)} of them those of ${count(manifest.trunk.smallTaskCount)} small tasks`,
        ]),
    `  features: ${features.join(', ')}`,
  ].join('\n');
}
