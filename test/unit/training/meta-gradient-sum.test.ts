import { describe, expect, it } from 'vitest';
import type { DeliveredResult, Rejection } from '../../../coordinator/dispatch/dispatcher.js';
import { MetaGradientSum } from '../../../coordinator/training/meta-gradient-sum.js';
import {
  gradientReader,
  type GradientShapes,
  type JobGradient,
} from '../../../coordinator/training/gradients/job-gradient.js';
import type { MetaGradient } from '../../../coordinator/training/meta-optimizer/meta-gradient.js';
import {
  deliveredOf,
  layoutOf,
  shapesFor,
  tensorsOf,
  twoTableSpec,
} from '../../fixtures/gradient-results.js';

const layouts = [layoutOf([2, 5], [0]), layoutOf([1, 5, 7], [])];
const shapes = shapesFor(layouts);
const good = [
  deliveredOf(0, tensorsOf([1, 2], [10, 20, 30])),
  deliveredOf(1, tensorsOf([3, 4], [1, 2, 3])),
];

const rejectionOf = (delivered: DeliveredResult, wanted = shapes): Rejection | null => {
  const read = gradientReader(wanted)(delivered);
  return typeof read === 'string' ? read : null;
};

function gradientsOf(
  results: readonly DeliveredResult[] = good,
  wanted: GradientShapes = shapes,
): JobGradient[] {
  return results.map((delivered) => {
    const read = gradientReader(wanted)(delivered);
    if (typeof read === 'string') throw new Error(`refused: ${read}`);
    return read;
  });
}

describe('the gradient reader', () => {
  it('accepts what the job requested', () => {
    for (const delivered of good) expect(rejectionOf(delivered)).toBeNull();
  });

  it.each([
    ['a variable of another shape', tensorsOf([1, 2, 3], [1, 2, 3])],
    ['too few rows', tensorsOf([1, 2], [1, 2])],
    ['a missing variable', new Map([...tensorsOf([1, 2], [1, 2, 3])].slice(1))],
    [
      'an unknown variable',
      new Map([
        ...tensorsOf([1, 2], [1, 2, 3]),
        ['v', { shape: [1], values: Float32Array.of(1) }] as const,
      ]),
    ],
    [
      'integers',
      new Map([
        ...tensorsOf([1, 2], [1, 2, 3]),
        ['w', { shape: [2], values: Int32Array.of(1, 2) }] as const,
      ]),
    ],
  ])('recognises a wrong layout: %s', (_name, tensors) => {
    expect(rejectionOf(deliveredOf(0, tensors))).toBe('layout_mismatch');
  });

  it('recognises bytes that are not tensors, and a job that was not sent', () => {
    const delivered = good[0]!;
    const { result } = delivered;
    const noise = Uint8Array.from({ length: result.output.byteCount }, () => 255);
    expect(rejectionOf({ ...delivered, output: noise })).toBe('layout_mismatch');
    expect(rejectionOf({ ...delivered, result: { ...result, jobIndex: 2 } })).toBe(
      'not_of_this_step',
    );
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
    'recognises %d in a variable, in a row and in a loss',
    (value) => {
      const bad = [
        deliveredOf(0, tensorsOf([1, value], [1, 2, 3])),
        deliveredOf(0, tensorsOf([1, 2], [value, 2, 3])),
        deliveredOf(0, tensorsOf([1, 2], [1, 2, 3]), { weightedQueryLoss: value }),
        deliveredOf(0, tensorsOf([1, 2], [1, 2, 3]), { weightedSupportLoss: value }),
      ];
      for (const delivered of bad) expect(rejectionOf(delivered)).toBe('not_finite');
    },
  );

  it('accepts the largest finite values', () => {
    const large = deliveredOf(0, tensorsOf([3.4e38, -3.4e38], [3.4e38, 0, -0]));
    expect(rejectionOf(large)).toBeNull();
  });
});

function aggregate(
  gradients: readonly JobGradient[],
  { spec, layouts }: GradientShapes,
): MetaGradient {
  const sum = new MetaGradientSum(spec);
  sum.begin(layouts);
  for (const gradient of gradients) sum.add(gradient);
  return sum.metaGradient();
}

describe('the sum', () => {
  it('adds dense gradients and rows by id', () => {
    const { dense, rows } = aggregate(gradientsOf(), shapes);
    // w: [1 + 3, 2 + 4]
    expect([...(dense.get('w')?.values ?? [])]).toEqual([4, 6]);
    // colour: job 0 has rows 2 and 5 (10, 20), job 1 rows 1, 5 and 7 (1, 2, 3).
    expect([...(rows.get('colour')?.ids ?? [])]).toEqual([1, 2, 5, 7]);
    expect([...(rows.get('colour')?.values ?? [])]).toEqual([1, 10, 22, 3]);
    // shape: only job 0 touches it, with row 0 after its two rows of colour.
    expect([...(rows.get('shape')?.ids ?? [])]).toEqual([0]);
    expect([...(rows.get('shape')?.values ?? [])]).toEqual([30]);
  });

  it('adds rows of several columns', () => {
    const spec = { ...twoTableSpec, tableRowWidth: 2 };
    const wide = { ...shapes, spec };
    const job = (jobIndex: number, w: number[], values: number[]): ReturnType<typeof deliveredOf> =>
      deliveredOf(
        jobIndex,
        new Map([
          ...tensorsOf(w, []),
          ['rows', { shape: [3, 2], values: Float32Array.from(values) }] as const,
        ]),
      );
    const results = [job(0, [0, 0], [1, 2, 3, 4, 5, 6]), job(1, [0, 0], [10, 20, 30, 40, 50, 60])];
    const { rows } = aggregate(gradientsOf(results, wide), wide);
    // Row 5 of colour: [3, 4] + [30, 40]
    expect([...(rows.get('colour')?.values ?? [])]).toEqual([10, 20, 1, 2, 33, 44, 50, 60]);
    expect([...(rows.get('shape')?.values ?? [])]).toEqual([5, 6]);
  });

  it('gives for one job the same as its sum with a job of zeros: -0 becomes 0', () => {
    // Rows: ids 2 and 5 of `colour`, then id 0 of `shape`.
    const one = shapesFor([layoutOf([2, 5], [0])]);
    const delivered = deliveredOf(0, tensorsOf([-0, 2], [-0, 20, -30]));
    const { dense, rows } = aggregate(gradientsOf([delivered], one), one);
    expect(dense.get('w')?.values).toEqual(Float32Array.of(0, 2));
    expect(rows.get('colour')).toEqual({
      ids: Int32Array.of(2, 5),
      values: Float32Array.of(0, 20),
    });
    expect(rows.get('shape')).toEqual({ ids: Int32Array.of(0), values: Float32Array.of(-30) });
  });

  it('adds up the losses in job order', () => {
    const sum = new MetaGradientSum(twoTableSpec);
    sum.begin(layouts);
    const losses = [1e16, -1e16];
    const results = losses.map((loss, jobIndex) =>
      deliveredOf(jobIndex, tensorsOf([1, 2], [1, 2, 3]), { weightedQueryLoss: loss + 2 }),
    );
    for (const gradient of gradientsOf(results).reverse()) sum.add(gradient);
    expect(sum.losses).toEqual({
      bySize: null,
      queryLossBefore: null,
      queryLoss: 1e16 + 2 + (-1e16 + 2),
      supportLoss: 1.2,
    });
  });

  it('begins each outer step anew, with more rows or fewer', () => {
    const sum = new MetaGradientSum(twoTableSpec);
    const few = shapesFor([layoutOf([4], [])]);
    const fewResults = [deliveredOf(0, tensorsOf([5, 6], [7]))];
    for (const [results, wanted] of [
      [good, shapes],
      [fewResults, few],
      [good, shapes],
    ] as const) {
      sum.begin(wanted.layouts);
      for (const gradient of gradientsOf(results, wanted)) sum.add(gradient);
      expect(sum.metaGradient()).toEqual(aggregate(gradientsOf(results, wanted), wanted));
    }
  });

  it('finds rows far apart among many', () => {
    const all = Array.from({ length: 2_000 }, (_, id) => id);
    const [few, last] = [[0, 1, 900, 1_998], [1_999]];
    const wide = shapesFor([few, all, last].map((ids) => layoutOf(ids, [])));
    const results = [few, all, last].map((ids, jobIndex) =>
      deliveredOf(
        jobIndex,
        tensorsOf(
          [0, 0],
          ids.map((id) => id + jobIndex),
        ),
      ),
    );
    const { rows } = aggregate(gradientsOf(results, wide), wide);
    const expected = all.map((id) => {
      return id + 1 + (few.includes(id) ? id : 0) + (last.includes(id) ? id + 2 : 0);
    });
    expect([...(rows.get('colour')?.values ?? [])]).toEqual(expected);
  });

  it('does not continue without a job', () => {
    expect(() => aggregate(gradientsOf().slice(1), shapes)).toThrow(/each of 2 jobs/);
  });
});

describe('with only some tables trained', () => {
  const spec = { ...twoTableSpec, learned: { variables: [], tables: ['shape'] } };
  const onlyShape = { ...shapesFor([layoutOf([2, 5], [0, 3]), layoutOf([1], [3])]), spec };
  const gradient = (jobIndex: number, rows: readonly number[]): DeliveredResult =>
    deliveredOf(
      jobIndex,
      new Map([['rows', { shape: [rows.length, 1], values: Float32Array.from(rows) }]]),
    );

  it('takes the rows of the trained tables, wherever they are in the pack', () => {
    expect(rejectionOf(gradient(0, [10, 20, 30, 40]), onlyShape)).toBe('layout_mismatch');
    const results = [gradient(0, [30, 40]), gradient(1, [2])];
    const { dense, rows } = aggregate(gradientsOf(results, onlyShape), onlyShape);
    expect(dense.size).toBe(0);
    expect([...rows.keys()]).toEqual(['shape']);
    expect(rows.get('shape')).toEqual({
      ids: Int32Array.of(0, 3),
      values: Float32Array.of(30, 42),
    });
  });
});
