/** The formats of converted models, byte by byte, and the models that are refused. */

import { describe, expect, test } from 'vitest';
import { randomStream } from '../../../shared/base/random.js';
import { ModelConfigSchema } from '../../../shared/models/model-config.js';
import type { EncodedFeature } from '../../../shared/tasks/store-manifest.js';
import { modelSpecOf } from '../../../shared/models/model-spec.js';
import { crc32c, maskedCrc } from '../../../shared/formats/crc32c.js';
import { modelGraphOf } from '../../../worker/serving/interchange/model-graph.js';
import { onnxModelOf } from '../../../worker/serving/interchange/onnx-model.js';
import { ProtoWriter, varint } from '../../../shared/formats/protobuf.js';
import { ScoringGraphBuilder } from '../../../worker/serving/interchange/scoring-graph.js';
import { bundleAround } from '../../fixtures/serving/converted-case.js';
import { readOnnxModel } from '../../fixtures/serving/onnx-model.js';
import { randomRankingCase } from '../../fixtures/serving/random-ranking-model.js';

test('varints are those of the specification, of negative numbers too', () => {
  expect([...varint(0)]).toEqual([0]);
  expect([...varint(150)]).toEqual([0x96, 0x01]);
  expect([...varint(2 ** 35)]).toEqual([0x80, 0x80, 0x80, 0x80, 0x80, 0x01]);
  expect([...varint(-1)]).toEqual([...Array.from({ length: 9 }, () => 0xff), 0x01]);
});

test('messages nest', () => {
  // The example of the specification: field 3, a message whose field 1 is 150.
  const bytes = new ProtoWriter().message(3, (inner) => inner.int(1, 150)).finish();
  expect([...bytes]).toEqual([0x1a, 0x03, 0x08, 0x96, 0x01]);
});

describe('CRC-32C', () => {
  // The check value, and vectors of RFC 3720, B.4.
  test.each([
    ['123456789', Buffer.from('123456789'), 0xe3069283],
    ['zeros', new Uint8Array(32), 0x8a9136aa],
    ['ones', new Uint8Array(32).fill(0xff), 0x62a8ab43],
    ['ascending', Uint8Array.from({ length: 32 }, (_, byte) => byte), 0x46dd794e],
  ])('of %s', (_, bytes, crc) => {
    expect(crc32c(bytes)).toBe(crc);
    for (const cut of [0, 1, 3, 6])
      expect(crc32c(bytes.subarray(cut), crc32c(bytes.subarray(0, cut)))).toBe(crc);
  });

  test('masked, rotates by 15 bits and adds a constant', () => {
    expect(maskedCrc(0)).toBe(0xa282ead8);
    expect(maskedCrc(0x8000)).toBe(0xa282ead9);
  });
});

test('large arrays are external data, each at a multiple of 64 KiB; small ones are in the model', () => {
  const builder = new ScoringGraphBuilder();
  const ids = builder.input('ids', 'int32', [null]);
  const table = (name: string, rowCount: number, value: number) =>
    builder.rows(
      builder.array({
        ...{ name, type: 'float32', shape: [rowCount, 1] },
        pieces: () => [new Uint8Array(new Float32Array(rowCount).fill(value).buffer)],
      }),
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
    .reduce((total, term) => builder.binary('add', total, term));
  const graph = builder.graphOf([{ name: 'score', value: sum }]);
  const { bytes, external } = onnxModelOf(graph, 'model.data', { bundle: 'digest' });
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
      expect(refusal).toThrow(/cannot be written for other servers/);
      expect(refusal).toThrow(
        expect.objectContaining({
          report: expect.objectContaining({
            found: expect.stringMatching(reason) as unknown,
          }) as unknown,
        }),
      );
    },
  );

  test('a feature with the name of the adgroup input', () => {
    expect(() =>
      modelGraphOf(bundleOf({ kind: 'logistic', hiddenWidths: [] }, [category('adgroup_index')])),
    ).toThrow(/a feature has the name of the input/);
  });
});
