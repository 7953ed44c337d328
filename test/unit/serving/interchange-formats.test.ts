/** The files of converted models, and the models that are refused. */

import { describe, expect, test } from 'vitest';
import { randomStream } from '../../../shared/base/random.js';
import { ModelConfigSchema } from '../../../shared/models/model-config.js';
import type { EncodedFeature } from '../../../shared/tasks/store-manifest.js';
import { modelSpecOf } from '../../../shared/models/model-spec.js';
import { modelGraphOf } from '../../../worker/serving/interchange/model-graph.js';
import { arrayOf, OnnxGraph } from '../../../worker/serving/interchange/onnx-graph.js';
import { bundleAround } from '../../fixtures/serving/converted-case.js';
import { readOnnxModel } from '../../fixtures/serving/onnx-model.js';
import { randomRankingCase } from '../../fixtures/serving/random-ranking-model.js';

test('large arrays are external data, each at a multiple of 64 KiB; small ones are in the model', () => {
  const graph = new OnnxGraph();
  const ids = graph.input('ids', 'int32', [null]);
  const table = (name: string, rowCount: number, value: number) =>
    graph.rows(
      graph.array(arrayOf(name, [rowCount, 1], new Float32Array(rowCount).fill(value))),
      ids,
    );
  const sum = (
    [
      ['a', 20_000],
      ['b', 3],
      ['c', 16_384],
    ] as const
  )
    .map(([name, rowCount], place) => table(name, rowCount, place + 1))
    .reduce((total, term) => graph.add(total, term));
  graph.output('score', sum);
  const { bytes, external } = graph.model({ bundle: 'digest' });
  expect(
    external.map(({ array, byteOffset, byteCount }) => [array.name, byteOffset, byteCount]),
  ).toEqual([
    ['a', 0, 80_000],
    ['c', 131_072, 65_536],
  ]);
  const data = new Uint8Array(131_072 + 65_536);
  for (const { array, byteOffset } of external)
    for (const piece of array.pieces()) data.set(piece, byteOffset);
  const model = readOnnxModel(bytes, data);
  expect(model.offsets).toEqual([0, 131_072]);
  expect(model.opset).toBe(17);
  expect(model.metadata).toEqual({ bundle: 'digest' });
  const { score } = model.evaluate({ ids: { shape: [2], values: [0, 2] } });
  expect(score).toEqual({ shape: [2, 1], values: [6, 6] });
});

describe('refused', () => {
  const category = (name: string): EncodedFeature => ({
    ...{ name, kind: 'category', rowCount: 4, encoding: { by: 'dictionary' } },
  });
  const bundleOf = (model: object, features: readonly EncodedFeature[]) => {
    const drawn = randomRankingCase(randomStream(1, 'refused'), 'logistic', 'float32');
    const spec = modelSpecOf(ModelConfigSchema.parse(model), features);
    return bundleAround({ ...drawn!.model, spec }, randomStream(1));
  };

  test.each([[{ kind: 'dcn-v2', personal: ['bias', 'cross0'] }, /personal cross layers/]])(
    '%j',
    (model, reason) => {
      const refusal = () => modelGraphOf(bundleOf(model, [category('city')]));
      expect(refusal).toThrow(/neither served nor converted/);
      expect(refusal).toThrow(
        expect.objectContaining({
          report: expect.objectContaining({
            found: expect.stringMatching(reason) as unknown,
          }) as unknown,
        }),
      );
    },
  );
});
