import { expect, test } from 'vitest';
import { at } from '../../../shared/base/arrays.js';
import {
  readBlock,
  writeBlock,
  blockLayoutOf,
  halfBitsOf,
  valueOfHalf,
} from '../../../shared/bundle/block-codec.js';
import { BLOCK_ENCODINGS } from '../../../shared/bundle/ranking-model.js';
import { MethodConfigSchema } from '../../../shared/methods/methods.js';
import { initialMetaParameters } from '../../../shared/models/meta-parameters.js';
import { ModelConfigSchema } from '../../../shared/models/model-config.js';
import { modelSpecOf } from '../../../shared/models/model-spec.js';
import { randomStream } from '../../../shared/base/random.js';

const spec = modelSpecOf(
  ModelConfigSchema.parse({
    ...{ kind: 'deepfm', embeddingWidth: 3, hiddenWidths: [5, 2], adgroupEmbedding: true },
    personal: ['bias', 'adgroupEmbedding', 'layer1', 'output'],
  }),
  [{ name: 'user', kind: 'category', rowCount: 10, encoding: { by: 'dictionary' } }],
);

test('a block begins with its scalars; other variables are aligned, and so is the next block', () => {
  const layout = blockLayoutOf(spec, 'float16');
  expect(
    layout.parts.map(({ name, byteOffset, encoding }) => [name, encoding, byteOffset]),
  ).toEqual([
    ['bias', 'float32', 0],
    ['adgroupEmbedding', 'float16', 16],
    ['layer1.weight', 'float16', 32],
    ['layer1.bias', 'float16', 64],
    ['output.weight', 'float16', 80],
  ]);
  expect(layout.strideByteCount).toBe(128);
});

test.each(BLOCK_ENCODINGS)('blocks in %s are read as they were written', (encoding) => {
  const layout = blockLayoutOf(spec, encoding);
  const random = randomStream(3, 'block');
  const initial = initialMetaParameters(spec, 7).dense;
  const variables = new Map(
    layout.parts.map(({ name, shape }) => [
      name,
      {
        shape,
        values: (initial.get(name)?.values ?? new Float32Array()).map((v) => v + random.normal()),
      },
    ]),
  );
  const bytes = new Uint8Array(layout.strideByteCount);
  writeBlock(layout, variables, bytes);
  const read = readBlock(layout, bytes);
  // Of steps of half precision below 4, half may be lost.
  const tolerance = { float32: 0, float16: 2 ** -9 / 2 }[encoding];
  for (const [name, { values }] of variables) {
    const found = read.get(name)?.values ?? new Float32Array();
    for (const [index, value] of values.entries())
      expect(Math.abs(at(found, index) - value)).toBeLessThanOrEqual(
        name === 'bias' ? 0 : tolerance,
      );
  }
  // What was read is what a second writing keeps.
  const again = new Uint8Array(layout.strideByteCount);
  writeBlock(layout, read, again);
  expect(readBlock(layout, again)).toEqual(read);
});

test('a block has the variances of its personal parameters behind them', () => {
  const config = {
    ...{ kind: 'deepfm', embeddingWidth: 3, hiddenWidths: [2], personal: ['bias', 'output'] },
  };
  const method = MethodConfigSchema.parse({ kind: 'posterior' });
  const { ownVariables } = modelSpecOf(ModelConfigSchema.parse(config), [], method);
  expect(ownVariables.map(({ name, shape }) => [name, ...shape])).toEqual([
    ['bias', 1],
    ['output.weight', 2, 1],
    ['variances', 3],
  ]);
  const layout = blockLayoutOf({ ownVariables }, 'float16');
  expect(layout.parts.map(({ byteOffset }) => byteOffset)).toEqual([0, 16, 32]);
});

test('half precision rounds to the nearest, ties to even', () => {
  const worked: [number, number][] = [
    ...([
      [0, 0],
      [1, 0x3c00],
      [-2, 0xc000],
      [65_504, 0x7bff],
      [1e9, 0x7bff],
    ] as [number, number][]),
    // The least number, half of it (a tie), and a little more than that.
    ...([
      [2 ** -24, 1],
      [2 ** -25, 0],
      [2 ** -25 * 1.01, 1],
    ] as [number, number][]),
    ...([
      [1 + 2 ** -11, 0x3c00],
      [1 + 3 * 2 ** -11, 0x3c02],
      [2 - 2 ** -12, 0x4000],
    ] as [number, number][]),
  ];
  for (const [value, bits] of worked) expect(halfBitsOf(value), String(value)).toBe(bits);
  for (let bits = 0; bits < 0x7c00; bits += 1) expect(halfBitsOf(valueOfHalf(bits))).toBe(bits);
});
