/**
 * The sum of a node has the same bits in whatever jobs its leaves travel, beside whatever others. Seen to fail: rows
 * of a leaf at their places in the pack of its job, and leaves of a job summed from left to right. Every leaf on the
 * pack of its job was not seen to differ on a CPU.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { childrenOf, nodesIn, SumTree, type LeafRange } from '../../shared/sums/sum-tree.js';
import { at } from '../../shared/base/arrays.js';
import {
  encodeSums,
  joinStored,
  type DeliveredSums,
  type TaskLosses,
} from '../../shared/sums/delivered-sums.js';
import { joinNodes, type GradientNode } from '../../shared/sums/gradient-node.js';
import { createExecutor } from '../../worker/compute/job/create-executor.js';
import {
  jobCaseOf,
  jobInputOf,
  runLeaves,
  type GradientCaseWork,
  type JobCase,
} from '../fixtures/compute/compute-inputs.js';
import { methodOf } from '../fixtures/compute/methods.js';
import { openedOnce } from '../fixtures/opened.js';
import { tinyTaskStore, type TinyStoreOptions } from '../fixtures/stores/tiny-task-store.js';

const TASK_COUNT = 11;
const storeOptions: TinyStoreOptions = {
  ...{ taskCount: TASK_COUNT, supportRowCountMax: 9, queryRowCountMax: 9, counts: true },
  bags: [{ rowCount: 6, lengthMax: 3 }],
};
const model = {
  ...{ embeddingWidth: 4, hiddenWidths: [5], adgroupEmbedding: true },
  personal: ['bias', 'layer0', 'output', 'adgroupEmbedding'],
};
/** Logits are linear in these blocks. */
const linearModel = { ...model, adgroupEmbedding: false, personal: ['bias', 'output'] };
const weightsOf = (scale: number): number[] =>
  Array.from({ length: TASK_COUNT }, (_, task) => scale * (1 + task));
const taskIndices = [...weightsOf(1).keys()].toReversed();
/** Few rows, so that the tasks make several leaves. */
const CUT = { microBatchRowsMax: 96, leavesMin: 5 };

const STEPS = { innerSteps: 2, innerRate: 0.2 };
const taskWeights = weightsOf(0.013);
const works: readonly (readonly [string, GradientCaseWork])[] = [
  ['global', { kind: 'gradient', method: { kind: 'global' }, taskWeights }],
  ['fomaml', { kind: 'gradient', method: methodOf({ kind: 'fomaml', ...STEPS }), taskWeights }],
  [
    'fomaml with a cold share, dropout and losses before adaptation',
    {
      ...{ kind: 'gradient', method: methodOf({ kind: 'fomaml', ...STEPS, coldShare: 0.4 }) },
      ...{ taskWeights, coldTaskWeights: weightsOf(0.017), queryLossBefore: true },
      dropout: { seed: 8, units: 0.3, inputs: 0.2, ids: 0.3 },
    },
  ],
  [
    'posterior with dropped units',
    {
      ...{ kind: 'gradient', method: methodOf({ kind: 'posterior' }), taskWeights },
      dropout: { seed: 8, units: 0.3, ids: 0.3 },
    },
  ],
  [
    'paml-gate',
    {
      kind: 'gradient',
      method: methodOf({
        ...{ kind: 'paml-gate', ...STEPS, preferenceWidth: 3, attributes: ['category1'] },
      }),
      taskWeights,
    },
  ],
];

const executor = openedOnce(() => createExecutor({ openStore: () => Promise.resolve(store) }));
let store: JobCase['store'];

function hexOf(values: Float32Array): string {
  return Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString('hex');
}

function bitsOf({ dense, idsByTable, rows }: GradientNode): unknown {
  return { dense: hexOf(dense), idsByTable, rows: hexOf(rows) };
}

function lossBitsOf({ query, support, queryBefore }: TaskLosses): string[] {
  return [query, support, queryBefore ?? new Float32Array(0)].map(hexOf);
}

/** What one job for each leaf returns, in the order of the leaves. */
async function leavesOf(jobCase: JobCase, work: GradientCaseWork): Promise<DeliveredSums[]> {
  const { job } = await jobInputOf(jobCase, taskIndices, work, CUT.microBatchRowsMax, CUT);
  if (job.work.kind !== 'gradient') throw new Error('expected a gradient job');
  const leaves: DeliveredSums[] = [];
  for (let first = 0; first < job.work.leaves.stepLeafCount; first += 1) {
    const range = { first, end: first + 1 };
    leaves.push(await runLeaves(executor, jobCase, taskIndices, work, { ...CUT, range }));
  }
  return leaves;
}

function sumOver(leaves: readonly DeliveredSums[], node: LeafRange, width: number): GradientNode {
  // A join writes to its children.
  if (node.end - node.first === 1) return structuredClone(at(at(leaves, node.first).nodes, 0));
  const [left, right] = childrenOf(node);
  return joinNodes(sumOver(leaves, left, width), sumOver(leaves, right, width), width);
}

/** Ranges that divide the leaves, in any order. */
const division = (leafCount: number): fc.Arbitrary<LeafRange[]> =>
  fc
    .subarray(Array.from({ length: leafCount - 1 }, (_, place) => place + 1))
    .map((cuts) => [0, ...cuts].map((first, place) => ({ first, end: cuts[place] ?? leafCount })))
    .chain((ranges) =>
      fc.shuffledSubarray(ranges, { minLength: ranges.length, maxLength: ranges.length }),
    );

describe.each(works)('%s', (name, work) => {
  test('sums and losses have the same bits however leaves are divided into jobs', async () => {
    store = { ...tinyTaskStore(storeOptions), digest: name };
    const own = work.method.kind === 'posterior' ? linearModel : model;
    const jobCase = jobCaseOf(store, own, 5, work.method);
    const width = jobCase.spec.tableRowWidth;
    const leaves = await leavesOf(jobCase, work);
    const leafCount = leaves.length;
    expect(leafCount).toBeGreaterThanOrEqual(5);
    const root = bitsOf(sumOver(leaves, { first: 0, end: leafCount }, width));
    await fc.assert(
      fc.asyncProperty(division(leafCount), async (ranges) => {
        const tree = new SumTree<GradientNode>(leafCount, (left, right) =>
          joinNodes(left, right, width),
        );
        for (const range of ranges) {
          const { first, end } = range;
          const found = await runLeaves(executor, jobCase, taskIndices, work, { ...CUT, range });
          const nodes = nodesIn(range, leafCount);
          const expected = nodes.map((node) => bitsOf(sumOver(leaves, node, width)));
          expect(found.nodes.map(bitsOf)).toEqual(expected);
          const losses = leaves.slice(first, end).map((leaf) => lossBitsOf(leaf.losses));
          const joined = [0, 1, 2].map((kind) => losses.map((bits) => at(bits, kind)).join(''));
          expect(lossBitsOf(found.losses)).toEqual(joined);
          for (const [place, node] of nodes.entries()) tree.add(node, at(found.nodes, place));
        }
        expect(bitsOf(tree.root())).toEqual(root);
      }),
      { numRuns: 2, examples: [[[{ first: 0, end: leafCount }]]] },
    );
  });

  test('sums that another worker joins have the bits of one job', async () => {
    store = { ...tinyTaskStore(storeOptions), digest: name };
    const own = work.method.kind === 'posterior' ? linearModel : model;
    const jobCase = jobCaseOf(store, own, 5, work.method);
    const asked = [jobCase, taskIndices, work] as const;
    const whole = await runLeaves(executor, ...asked, CUT);
    const { job } = await jobInputOf(...asked, CUT.microBatchRowsMax, CUT);
    if (job.work.kind !== 'gradient') throw new Error('expected a gradient job');
    const { stepLeafCount } = job.work.leaves;
    const nodes: Parameters<typeof joinStored>[0][number][] = [];
    for (const range of childrenOf({ first: 0, end: stepLeafCount })) {
      const input = await jobInputOf(...asked, CUT.microBatchRowsMax, { ...CUT, range });
      const kept = { ...input, job: { ...input.job, keepsSums: true as const } };
      nodes.push({ ...range, bytes: (await executor.execute(kept)).output });
    }
    const none = new Float32Array(0);
    const losses = { query: none, support: none, queryBefore: null };
    const expected = encodeSums({ nodes: whole.nodes, losses }, jobCase.spec.tableRowWidth);
    expect(Buffer.compare(joinStored(nodes, stepLeafCount, false), expected)).toBe(0);
  });
});
