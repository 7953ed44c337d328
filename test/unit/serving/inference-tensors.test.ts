/** Raw tensors of the Open Inference Protocol: whole numbers of 64 bits keep their digits. */

import { expect, test } from 'vitest';
import { readInference, rowsOf } from '../../../worker/serving/server/endpoints/tensors.js';

test.each([
  ['INT64', BigInt64Array.of(7n, -(2n ** 53n) - 1n, 2n ** 62n + 1n)],
  ['UINT64', BigUint64Array.of(7n, 2n ** 53n + 1n, 2n ** 64n - 1n)],
])('of %s are as they were sent', (datatype, values) => {
  const raw = Buffer.from(values.buffer);
  const parameters = { binary_data_size: raw.byteLength };
  const head = { inputs: [{ name: 'adgroup', shape: [values.length], datatype, parameters }] };
  const json = Buffer.from(JSON.stringify(head));
  const { inputs } = readInference(Buffer.concat([json, raw]), json.byteLength);
  expect(rowsOf(inputs[0]!).map(String)).toEqual(Array.from(values, String));
  expect(rowsOf(inputs[0]!)[0]).toBe(7);
});
