/** The byte form of tensors: worked bytes, files of other tools, and refusals. */

import { describe, expect, it } from 'vitest';
import { refusalOf } from '../../fixtures/failures.js';
import { decodeTensors, encodeTensors } from '../../../shared/tensors/tensor-codec.js';

function bytesOf(header: string, ...values: number[]): Uint8Array {
  const json = Buffer.from(header);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, Uint8Array.from(values)]);
}

describe('encodeTensors', () => {
  it('writes length, padded JSON header and little-endian values', () => {
    const bytes = encodeTensors(new Map([['w', { shape: [2], values: Float32Array.of(1, -0) }]]));
    const header = '{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}';
    const padded = header.padEnd(Math.ceil(header.length / 8) * 8);
    expect(Buffer.from(bytes).toString('latin1')).toBe(
      `${String.fromCharCode(padded.length)}\0\0\0\0\0\0\0${padded}\0\0\x80?\0\0\0\x80`,
    );
  });

  it.each(['__metadata__', '__proto__'])('refuses the name %s', (name) => {
    const one = { shape: [1], values: Uint8Array.of(1) };
    expect(() => encodeTensors(new Map([[name, one]]))).toThrow(`named ${name}`);
  });
});

describe('decodeTensors', () => {
  it('reads files of other tools: free text next to the tensors, entries in any order', () => {
    const header =
      '{"__metadata__":{"format":"np"},"b":{"dtype":"U8","shape":[],"data_offsets":[1,2]},' +
      '"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}';
    const decoded = decodeTensors(bytesOf(header, 7, 8), '');
    expect([...decoded]).toEqual([
      ['a', { shape: [1], values: Uint8Array.of(7) }],
      ['b', { shape: [], values: Uint8Array.of(8) }],
    ]);
  });

  const entry = (offsets: string, shape = '[4]', dtype = 'U8'): string =>
    `{"a":{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}}`;
  it.each([
    ['nothing', new Uint8Array(0), '0 bytes'],
    ['a header longer than the bytes', bytesOf('{}').subarray(0, 9), 'a header of 2 bytes'],
    ['an endless header', new Uint8Array(16).fill(255), 'a header of 18446744073709552000 bytes'],
    ['text that is not JSON', bytesOf('{"a":'), 'a header that is not JSON'],
    ['an unknown type', bytesOf(entry('[0,4]', '[4]', 'BF16'), 1, 2, 3, 4), 'a.dtype'],
    ['values cut off', bytesOf(entry('[0,4]'), 1, 2, 3), 'a in bytes 0 to 4 of 3'],
    [
      'values left over',
      bytesOf(entry('[0,4]'), 1, 2, 3, 4, 5),
      '1 bytes that belong to no tensor',
    ],
    ['a gap', bytesOf(entry('[1,5]'), 1, 2, 3, 4, 5), 'a in bytes 1 to 5 of 5'],
    ['a shape of another size', bytesOf(entry('[0,4]', '[5]'), 1, 2, 3, 4), 'a of shape [5]'],
    ['half an element', bytesOf(entry('[0,6]', '[1]', 'F32'), 1, 2, 3, 4, 5, 6), 'in 6 bytes'],
  ])('refuses %s, with the place and the reason', (_, bytes, found) => {
    expect(refusalOf(() => decodeTensors(bytes, 'blob 12'))).toMatchObject({
      kind: 'data',
      report: { where: 'blob 12', found: expect.stringContaining(found) as string },
    });
  });
});
