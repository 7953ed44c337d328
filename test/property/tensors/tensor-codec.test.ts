/** The tensor codec on arbitrary tensors, and on any damage to its bytes. */

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { QianmoError } from '../../../shared/base/errors.js';
import {
  decodeTensors,
  encodeTensors,
  viewTensors,
  type CodedTensor,
} from '../../../shared/tensors/tensor-codec.js';

const values = fc.oneof(
  fc.float32Array({ maxLength: 12 }),
  fc.float64Array({ maxLength: 12 }),
  fc.int32Array({ maxLength: 12 }),
  fc.uint8Array({ maxLength: 12 }),
);
const tensor: fc.Arbitrary<CodedTensor> = values.map((v) => ({ shape: [v.length], values: v }));
const tensors = fc
  .uniqueArray(fc.tuple(fc.string({ maxLength: 6, unit: 'binary' }), tensor), {
    maxLength: 5,
    selector: ([name]) => name,
  })
  .map((entries) => new Map(entries));

function bitsOf(map: ReadonlyMap<string, CodedTensor>): unknown {
  return [...map].map(([name, { shape, values: v }]) => [
    name,
    [...shape],
    v.constructor.name,
    Buffer.from(v.buffer, v.byteOffset, v.byteLength).toString('hex'),
  ]);
}

it('decodes what was encoded, in order, also from the middle of a larger buffer', () => {
  fc.assert(
    fc.property(tensors, fc.nat({ max: 9 }), (map, offset) => {
      const bytes = encodeTensors(map);
      const pool = Buffer.alloc(bytes.length + offset + 3, 0xee);
      pool.set(bytes, offset);
      const own = pool.subarray(offset, offset + bytes.length);
      const decoded = decodeTensors(own, 'here');
      for (const read of [decoded, viewTensors(own, 'here')])
        expect(bitsOf(read)).toEqual(bitsOf(map));
      pool.fill(0);
      expect(bitsOf(decoded)).toEqual(bitsOf(map));
    }),
    { numRuns: 300 },
  );
});

it('refuses every truncation and every extension', () => {
  fc.assert(
    fc.property(tensors, fc.nat(), (map, cut) => {
      const bytes = encodeTensors(map);
      const where = 'blob 1';
      for (const damaged of [bytes.subarray(0, cut % bytes.length), Uint8Array.from([...bytes, 0])])
        expect(() => decodeTensors(damaged, where)).toThrow(QianmoError);
    }),
  );
});

it('only ever fails with a QianmoError, whatever the bytes', () => {
  fc.assert(
    fc.property(tensors, fc.nat(), fc.nat({ max: 255 }), (map, place, value) => {
      const bytes = encodeTensors(map);
      bytes[place % bytes.length] = value;
      try {
        decodeTensors(bytes, 'here');
      } catch (failure) {
        expect(failure).toBeInstanceOf(QianmoError);
      }
    }),
    { numRuns: 1000 },
  );
});
