// The addon's row sums against TensorFlow's and against plain float32 additions, and their
// refusals. Seen to fail on mutants: rows of a later list added at the places of the first; sums
// not zeroed; negative places added to row 0; the check for places beyond the count left out.

import { beforeAll, describe, expect, test } from 'vitest';
import type * as tfjs from '@tensorflow/tfjs';
import { randomStream } from '../../../shared/base/random.js';
import { capture } from '../../../worker/compute/engine/capture/capture.js';
import { loadEngine } from '../../../worker/compute/engine/load-engine.js';
import { nativeBackendOf } from '../../../worker/compute/engine/native-backend.js';
import { nativeRowSums, type RowSums } from '../../../worker/compute/engine/kernels.js';

/** The prebuilt addon of the package, which does not have our operation. */
const OWN_VERSION = '2.9.1';

const engine = await loadEngine('tensorflow', () => undefined);
let found: RowSums | null;

beforeAll(() => {
  found = nativeRowSums(engine.tf);
});

function rowSums(context: { readonly skip: (note: string) => void }): RowSums {
  if (nativeBackendOf(engine.tf)?.binding.TF_Version === OWN_VERSION)
    context.skip('the prebuilt addon has no sum of rows');
  if (found === null) throw new Error('the addon built here has no sum of rows');
  return found;
}

function unsortedSegmentSum(rows: tfjs.Tensor, places: tfjs.Tensor, count: number): tfjs.Tensor {
  const backend = nativeBackendOf(engine.tf);
  if (backend === null) throw new Error('the backend is not native');
  const type = (name: string, dtype: tfjs.DataType) => ({
    name,
    type: backend.binding.TF_ATTR_TYPE,
    value: backend.getDTypeInteger(dtype),
  });
  return backend.executeSingleOutput(
    'UnsortedSegmentSum',
    [type('T', 'float32'), type('Tindices', 'int32'), type('Tnumsegments', 'int32')],
    [rows, places, engine.tf.scalar(count, 'int32')],
  );
}

describe('sums of rows', () => {
  test.for([
    { lengths: [5], width: 3, count: 4 },
    { lengths: [7, 0, 9], width: 16, count: 3 },
    { lengths: [64, 64, 64, 64], width: 16, count: 11 },
    { lengths: [1, 1], width: 1, count: 1 },
    { lengths: [200, 300], width: 33, count: 70 },
    { lengths: [0], width: 4, count: 2 },
  ])('of $lengths rows of $width equal those of TensorFlow, bit for bit', (shape, context) => {
    const sums = rowSums(context);
    const { tf } = engine;
    const stream = randomStream(7, `sums-${shape.lengths.join('-')}`);
    const total = shape.lengths.reduce((sum, length) => sum + length, 0);
    // One more than exist; negative places are skipped.
    const places = Int32Array.from({ length: total }, () => stream.below(shape.count + 1) - 1);
    tf.tidy(() => {
      const parts = shape.lengths.map((length) => {
        const values = Float32Array.from({ length: length * shape.width }, () => stream.normal());
        return tf.tensor2d(values, [length, shape.width]);
      });
      const placed = tf.tensor1d(places, 'int32');
      const own = sums(parts, placed, shape.count);
      expect(own.shape).toEqual([shape.count, shape.width]);
      const joined = tf.concat(parts, 0);
      const theirs = unsortedSegmentSum(joined, placed, shape.count);
      expect([...own.dataSync()]).toEqual([...theirs.dataSync()]);
      const plain = new Float32Array(shape.count * shape.width);
      const values = joined.dataSync<'float32'>();
      for (const [row, place] of places.entries())
        for (let column = 0; place >= 0 && column < shape.width; column += 1) {
          const to = place * shape.width + column;
          plain[to] = (plain[to] ?? 0) + (values[row * shape.width + column] ?? 0);
        }
      expect([...own.dataSync()]).toEqual([...plain]);
    });
  });

  test('are part of a captured graph', (context) => {
    const sums = rowSums(context);
    const { tf } = engine;
    const rows = tf.tensor2d([1, 2, 3, 4, 5, 6], [3, 2]);
    const places = tf.tensor1d([1, 0, 1], 'int32');
    const doubled = capture(
      engine,
      (input: { readonly rows: tfjs.Tensor; readonly places: tfjs.Tensor }) =>
        tf.mul(sums([input.rows], input.places, 2), 2),
      { name: 'sums', rewrites: true },
    );
    expect([...doubled.run({ rows, places }).dataSync()]).toEqual([6, 8, 12, 16]);
    const others = tf.tensor1d([0, 0, 0], 'int32');
    expect([...doubled.run({ rows, places: others }).dataSync()]).toEqual([18, 24, 0, 0]);
    doubled.dispose();
  });

  test.for([
    { case: 'a place beyond the count', places: [0, 2], widths: [2], says: 'not below the count' },
    { case: 'more places than rows', places: [0, 1, 1], widths: [2], says: 'more places than' },
    {
      case: 'fewer places than rows',
      places: [0],
      widths: [2],
      says: 'more than there are places',
    },
    { case: 'rows of two widths', places: [0, 1, 1, 0], widths: [2, 3], says: 'differ in width' },
  ])('refuse $case', ({ places, widths, says }, context) => {
    const sums = rowSums(context);
    const { tf } = engine;
    const parts = widths.map((width) => tf.ones([2, width]));
    expect(() => sums(parts, tf.tensor1d(places, 'int32'), 2)).toThrow(says);
  });
});
