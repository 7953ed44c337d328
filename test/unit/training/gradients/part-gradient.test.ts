/** What is refused of a part of a job: all that is refused of a whole one. */

import { expect, it } from 'vitest';
import type { Admitted } from '../../../../coordinator/dispatch/dispatcher.js';
import { givenUpJobOf } from '../../../../coordinator/dispatch/job-delivery.js';
import type { JobGradient } from '../../../../coordinator/training/gradients/job-gradient.js';
import { joinedParts } from '../../../../coordinator/training/gradients/joined-parts.js';
import {
  partReader,
  type PartGradient,
  type PartShapes,
} from '../../../../coordinator/training/gradients/part-gradient.js';
import { DivergenceError } from '../../../../shared/base/errors.js';
import type { CodedTensor } from '../../../../shared/tensors/tensor-codec.js';
import { deliveredOf, layoutOf, shapesFor } from '../../../fixtures/gradient-results.js';

const layout = layoutOf([1], []);
/** Two micro-batches of a task each, and a third one alone. */
const ranges = [
  { first: 0, end: 2, count: 3, taskCount: 2 },
  { first: 2, end: 3, count: 3, taskCount: 1 },
];
const shapes: PartShapes = {
  ...shapesFor([layout]),
  parts: ranges.map((microBatches) => {
    const { first, end } = microBatches;
    const taskPlaces = [0, 1, 2].slice(first, end);
    return { jobIndex: 0, microBatches, taskPlaces, rowCount: 1 };
  }),
  asksBefore: true,
};
const planned = {
  ...{ jobIndex: 0, taskIndices: [7, 8, 9], taskWeights: [0.5, 0.25, 0.25] },
  ...{ coldTaskWeights: null, drawnRows: null, neighbours: {}, rowCount: 3, cut: [], layout },
  sizes: { bucketByTask: [0, 0, 0], taskCounts: [3], weights: [1] },
};

interface PartValues {
  readonly w: readonly number[];
  readonly query?: readonly number[];
  readonly before?: readonly number[];
}

function partOf(place: 0 | 1, { w, query, before }: PartValues): Admitted<PartGradient> | string {
  const { taskCount } = ranges[place]!;
  const Floats = place === 0 ? Float64Array : Float32Array;
  const losses = Array<number>(taskCount).fill(0.5);
  const lossesOf = (values: readonly number[] = losses): CodedTensor => {
    return { shape: [taskCount], values: Float32Array.from(values) };
  };
  const delivered = deliveredOf(
    place,
    new Map<string, CodedTensor>([
      ['w', { shape: [2], values: Floats.from(w) }],
      ['rows', { shape: [1, 1], values: Floats.from([0]) }],
      ['losses.query', lossesOf(query)],
      ['losses.support', lossesOf()],
      ['losses.queryBefore', lossesOf(before)],
    ]),
  );
  const value = partReader(shapes)(delivered);
  if (typeof value === 'string') return value;
  if (!('part' in value)) throw new Error('expected a part');
  return { result: delivered.result, value };
}

async function joinedOf(...parts: readonly (Admitted<PartGradient> | string)[]) {
  const joined: JobGradient[] = [];
  const arriving = (async function* () {
    for (const part of parts) {
      if (typeof part === 'string') throw new Error(part);
      yield await Promise.resolve(part);
    }
  })();
  for await (const { value } of joinedParts(arriving, { jobs: [planned] }, shapes))
    joined.push(value);
  return joined;
}

it('joins large gradients whose sum is finite', async () => {
  const large = Math.fround(3e38);
  const [joined] = await joinedOf(partOf(0, { w: [large, 1] }), partOf(1, { w: [-large, 1] }));
  expect(joined?.dense.get('w')?.values).toEqual(Float32Array.of(0, 2));
});

it.each<[string, 0 | 1, PartValues]>([
  ['a sum beyond 32 bits', 0, { w: [0, -1e39] }],
  ['a sum that is not finite', 0, { w: [0, Infinity] }],
  ['the gradient of a micro-batch that is not finite', 1, { w: [NaN, 0] }],
  ['the loss of a task that is not finite', 0, { w: [0, 0], query: [1, NaN] }],
])('refuses %s', (_, place, values) => {
  expect(partOf(place, values)).toBe('not_finite');
});

it('tells no loss before adaptation that is not finite, as of a whole job', async () => {
  const [joined] = await joinedOf(
    partOf(0, { w: [1, 1], before: [1, Infinity] }),
    partOf(1, { w: [1, 1] }),
  );
  expect(joined).toMatchObject({ weightedQueryLoss: 0.5, weightedQueryLossBefore: null });
});

it('gives the job up whose parts add up to more than 32 bits hold', async () => {
  const joining = joinedOf(partOf(1, { w: [2e38, 0] }), partOf(0, { w: [2e38, 0] }));
  const error: unknown = await joining.catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(DivergenceError);
  expect(givenUpJobOf(error)?.jobIndex).toBe(0);
});
