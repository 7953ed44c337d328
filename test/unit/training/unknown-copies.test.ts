// Rows of unseen values stay equal to the row of unknown values: at the start, and after each outer step.
import { describe, expect, it } from 'vitest';
import { runTables } from '../../../coordinator/training/run-tables.js';
import {
  metaOptimizerOf,
  type MetaGradient,
} from '../../../coordinator/training/meta-optimizer.js';
import { TrainingConfigSchema } from '../../../shared/config/training-config.js';
import { initialMetaParameters } from '../../../shared/models/meta-parameters.js';
import { ModelConfigSchema } from '../../../shared/models/model-config.js';
import { modelSpecOf } from '../../../shared/models/model-spec.js';
import type { EncodedFeature } from '../../../shared/tasks/store-manifest.js';

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
    const rows = valuesOf(initialMetaParameters(spec, 1));
    const plain = valuesOf(initialMetaParameters(modelSpecOf(model, featuresOf()), 1));
    for (const row of [1, 2, 3]) expect(rows[row]).toEqual(rows[0]);
    expect(rows.slice(4)).toEqual(plain.slice(4));
    expect(plain[1]).not.toEqual(plain[0]);
  });

  it('adds the gradients of the copies to that of the row of unknown values', () => {
    const training = TrainingConfigSchema.parse({
      ...{ optimizer: { kind: 'sgd', rate: 1, momentum: 0 }, weightDecay: 0, gradientNormMax: 1e6 },
    });
    const stepsOf = (rows: Record<number, readonly number[]>): number[][] => {
      const metaParameters = initialMetaParameters(spec, 1);
      for (const { values } of metaParameters.tables.values()) values.fill(0);
      const optimizer = metaOptimizerOf(training, spec.variables).init(metaParameters);
      const start = { outerStep: 0, metaParameters, optimizer, computedOn: [] };
      return valuesOf(
        runTables(start, spec, training).step(start, gradientOf(rows)).metaParameters,
      );
    };
    const none = [0, 0];
    const all = [-111, -222];
    expect(stepsOf({ 0: [1, 2], 2: [10, 20], 3: [100, 200], 5: [7, 8] })).toEqual([
      all,
      all,
      all,
      all,
      none,
      [-7, -8],
      none,
      none,
    ]);
    const few = [-3, -4];
    expect(stepsOf({ 1: [3, 4] }).slice(0, 5)).toEqual([few, few, few, few, none]);
    expect(stepsOf({ 5: [7, 8] }).slice(0, 5)).toEqual(Array(5).fill(none));
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
