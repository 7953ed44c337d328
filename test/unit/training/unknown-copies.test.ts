// Rows of unseen values stay equal to the row of unknown values: at the start, and after each outer step.
import { describe, expect, it } from 'vitest';
import {
  runTables,
  unknownCopiesOf,
  withSharedUnknown,
  writtenRowsOf,
} from '../../../coordinator/training/run-tables.js';
import {
  metaOptimizerOf,
  type MetaGradient,
} from '../../../coordinator/training/meta-optimizer.js';
import { TrainingConfigSchema } from '../../../shared/config/training-config.js';
import { initialMetaParameters } from '../../../shared/models/meta-parameters.js';
import { ModelConfigSchema } from '../../../shared/models/model-config.js';
import { modelSpecOf } from '../../../shared/models/model-spec.js';
import type { EncodedFeature } from '../../../shared/tasks/store-manifest.js';

const WIDTH = 2;
const gradientOf = (rows: Record<number, readonly number[]>): MetaGradient => ({
  dense: new Map(),
  rows: new Map([
    [
      'site',
      {
        ids: Int32Array.from(Object.keys(rows), Number),
        values: Float32Array.from(Object.values(rows).flat()),
      },
    ],
  ]),
});
const rowsOf = ({ rows }: MetaGradient): Record<number, number[]> => {
  const { ids, values } = rows.get('site')!;
  return Object.fromEntries(
    [...ids].map((id, place) => [id, [...values.subarray(place * WIDTH, (place + 1) * WIDTH)]]),
  );
};

describe('the gradient of rows of unseen values', () => {
  const copies = new Map([['site', 4]]);
  const shared = (rows: Record<number, readonly number[]>): Record<number, number[]> =>
    rowsOf(withSharedUnknown(gradientOf(rows), copies));

  it('is added to that of the row of unknown values', () => {
    const rows = { 0: [1, 2], 2: [10, 20], 4: [100, 200], 5: [7, 8], 9: [9, 9] };
    expect(shared(rows)).toEqual({ 0: [111, 222], 5: [7, 8], 9: [9, 9] });
    expect(shared({ 1: [3, 4], 6: [5, 6] })).toEqual({ 0: [3, 4], 6: [5, 6] });
    expect(shared({ 3: [3, 4], 4: [1, 1] })).toEqual({ 0: [4, 5] });
  });

  it('is none where there is none', () => {
    expect(shared({ 0: [1, 2], 5: [7, 8] })).toEqual({ 0: [1, 2], 5: [7, 8] });
    expect(shared({ 5: [7, 8] })).toEqual({ 5: [7, 8] });
    expect(shared({})).toEqual({});
  });

  it('writes to the copies of a row of unknown values that it moves', () => {
    const written = (rows: Record<number, readonly number[]>): number[] => [
      ...writtenRowsOf(gradientOf(rows).rows, copies).get('site')!.ids,
    ];
    expect(written({ 0: [1, 2], 7: [1, 2] })).toEqual([0, 1, 2, 3, 4, 7]);
    expect(written({ 5: [1, 2], 7: [1, 2] })).toEqual([5, 7]);
  });
});

const featuresOf = (unseenBuckets?: number): EncodedFeature[] => [
  {
    ...{ name: 'site', kind: 'category', rowCount: 8 },
    encoding: { by: 'dictionary', ...(unseenBuckets === undefined ? {} : { unseenBuckets }) },
  },
];
const model = ModelConfigSchema.parse({
  kind: 'fm',
  embeddingWidth: 1,
  hiddenWidths: [],
  personal: ['bias'],
});

describe('a table', () => {
  const spec = modelSpecOf(model, featuresOf(3));
  const valuesOf = (parameters: ReturnType<typeof initialMetaParameters>): number[][] => {
    const { values } = parameters.tables.get('site')!;
    return Array.from({ length: 8 }, (_, row) => [...values.subarray(row * 2, row * 2 + 2)]);
  };

  it('begins with copies, and with the other rows as they are without them', () => {
    expect(unknownCopiesOf(spec)).toEqual(new Map([['site', 3]]));
    const rows = valuesOf(initialMetaParameters(spec, 1));
    const plain = valuesOf(initialMetaParameters(modelSpecOf(model, featuresOf()), 1));
    for (const row of [1, 2, 3]) expect(rows[row]).toEqual(rows[0]);
    expect(rows.slice(4)).toEqual(plain.slice(4));
    expect(plain[1]).not.toEqual(plain[0]);
  });

  it('has copies after every outer step', () => {
    const training = TrainingConfigSchema.parse({
      ...{ optimizer: { kind: 'adam', rate: 0.1 }, weightDecay: 0.1, gradientNormMax: 1000 },
    });
    const metaParameters = initialMetaParameters(spec, 1);
    const before = valuesOf(metaParameters);
    const optimizer = metaOptimizerOf(training, spec.variables).init(metaParameters);
    const start = { outerStep: 0, metaParameters, optimizer, computedOn: [] };
    const tables = runTables(start, spec, training);
    const first = tables.step(start, gradientOf({ 2: [3, -1], 5: [1, 1] }));
    const once = valuesOf(first.metaParameters);
    expect(once[0]).not.toEqual(before[0]);
    for (const row of [1, 2, 3]) expect(once[row]).toEqual(once[0]);
    tables.step(first, gradientOf({ 0: [1, 1], 6: [1, 1] }));
    const twice = valuesOf(first.metaParameters);
    expect(twice[0]).not.toEqual(once[0]);
    for (const row of [1, 2, 3]) expect(twice[row]).toEqual(twice[0]);
    // Adam's first step is the rate against the sign, whatever the size.
    expect(once[5]![0]!).toBeLessThan(before[5]![0]!);
  });
});
