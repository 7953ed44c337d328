/** Whether meta-parameters are those of a model: names, shapes, order. */

import type { MetaParameters } from '../../shared/models/initial-values.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';

/** Sentences; none when the layout is that of the model. */
export function modelMisfits(meta: MetaParameters, spec: ModelSpec): string[] {
  const found = [
    ...[...meta.dense].map(([name, { shape }]) => `${name} [${shape.join(', ')}]`),
    ...[...meta.tables].map(([name, t]) => `table ${name} [${t.rowCount}, ${t.width}]`),
  ];
  const expected = [
    ...spec.variables.map(({ name, shape }) => `${name} [${shape.join(', ')}]`),
    ...spec.tables.map((t) => `table ${t.name} [${t.rowCount}, ${spec.tableRowWidth}]`),
  ];
  const misfits: string[] = [];
  for (let index = 0; index < Math.max(found.length, expected.length); index += 1)
    if (found[index] !== expected[index])
      misfits.push(`expected ${expected[index] ?? 'no more'}, found ${found[index] ?? 'no more'}`);
  return misfits;
}
