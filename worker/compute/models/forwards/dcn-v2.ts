/** DCN-V2: `shared/models/kinds/dcn-v2.ts`. */

import type * as tfjs from '@tensorflow/tfjs';
import { crossBlocks, isStacked } from '../../../../shared/models/kinds/dcn-v2.js';
import { linearAndFactorised } from '../interactions.js';
import {
  fieldPieces,
  hiddenLayers,
  outputTerm,
  productWith,
  withBias,
  type Piece,
} from '../layers.js';
import { vectorsOf, type Forward, type ModelFrame } from '../model-frame.js';

export const dcnV2: Forward = (frame) => {
  const { options } = frame.spec;
  const linear = linearAndFactorised(frame, { isFactorised: false });
  const input = fieldVectors(frame);
  const crossed = crossLayers(frame, input);
  if (isStacked(options)) return [...linear, outputTerm(frame, hiddenLayers(frame, [crossed]))];
  const hidden = hiddenLayers(frame, fieldPieces(frame));
  return [...linear, outputTerm(frame, [crossed, ...hidden])];
};

/** All field vectors side by side, what a task has once repeated for its rows. */
function fieldVectors(frame: ModelFrame): Piece {
  const { tf } = frame.engine;
  const { groups, pass, spec } = frame;
  const rowCount = spec.fieldCount * spec.embeddingWidth;
  const values = pass.apply(
    'cross.input',
    groups.map((group) => group.values),
    (...all) => {
      const vectors = all.map((fields) => {
        const each = vectorsOf(frame, fields);
        return tf.reshape(each, [...each.shape.slice(0, -2), -1]);
      });
      const rowExtent = Math.max(...vectors.map(({ shape }) => shape[1] ?? 1));
      const byRow = (x: tfjs.Tensor): tfjs.Tensor =>
        x.rank === 3 && x.shape[1] !== rowExtent ? tf.tile(x, [1, rowExtent, 1]) : x;
      return vectors.length === 1 && vectors[0] !== undefined
        ? vectors[0]
        : tf.concat(vectors.map(byRow), -1);
    },
  );
  return { values, rowCount };
}

/** x_{l+1} = x_0 * (x_l W_l + b_l) + x_l */
function crossLayers(frame: ModelFrame, input: Piece): Piece {
  const { tf } = frame.engine;
  const rank = frame.spec.options.crossRank;
  let crossed = input;
  for (const block of crossBlocks(frame.spec.options)) {
    const weighted =
      rank === undefined
        ? productWith(frame, [crossed], `${block}.weight`)
        : productWith(
            frame,
            [{ values: productWith(frame, [crossed], `${block}.compress`), rowCount: rank }],
            `${block}.expand`,
          );
    const biased = withBias(frame, weighted, `${block}.bias`);
    const values = frame.pass.apply(
      block,
      [input.values, biased, crossed.values],
      (x0, factor, x) => tf.add(tf.mul(x0, factor), x),
    );
    crossed = { ...crossed, values };
  }
  return crossed;
}
