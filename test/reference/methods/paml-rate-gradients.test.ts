// Task-adaptive inner rates: the outer gradient, including those of the tree's branches and leaves,
// against the float64 referee, and worked leaf shares. Seen to fail: leaves in breadth-first order
// instead of the order of branches, the size of the support set left out of the features,
// attributes in the order of the store instead of that in which they are named.

import { describe, test } from 'vitest';
import { methodJobs } from '../method-jobs.js';
import { supportOf } from '../referee.js';
import type { RefereeLoop, RefereeTask } from '../second-order-referee.js';

const innerRate = 0.4;
const depth = 2;
const branchCount = 2 ** depth - 1;
const leafRateScale = 1.5;
/** Not in the order of the store. */
const attributes = ['category1', 'category0'];

const jobs = methodJobs();

/** Nodes: size and level of the support set, then the attributes' embeddings. */
function featuresOf({ tape, task, tableRow }: RefereeTask): number[] {
  const { end } = supportOf(task);
  const sumOf = (values: Float32Array): number =>
    values.subarray(0, end).reduce((sum, value) => sum + value, 0);
  const [impressions, clicks] = [sumOf(task.impressions), sumOf(task.clicks)];
  return [
    tape.constant(Math.log1p(impressions) / 2 - 1),
    tape.constant(Math.log((9 * (clicks + 1)) / (impressions - clicks + 9)) / 2),
    ...tableRow('category1', task.categoryIds[1]![0]!),
    ...tableRow('category0', task.categoryIds[0]![0]!),
  ];
}

/** Nodes of the share of each leaf, walked from the root, left branch first. */
function sharesOf(seen: RefereeTask): number[] {
  const { tape, variable } = seen;
  const features = featuresOf(seen);
  const rightAt = (branch: number): number => {
    const terms = features.map((feature, place) =>
      tape.multiply(variable('tree.weight')[place * branchCount + branch]!, feature),
    );
    return tape.sigmoid(tape.add(variable('tree.bias')[branch]!, ...terms));
  };
  return Array.from({ length: 2 ** depth }, (_, leaf) => {
    let [branch, share] = [0, tape.constant(1)];
    for (let level = depth - 1; level >= 0; level -= 1) {
      const goesRight = ((leaf >> level) & 1) === 1;
      const right = rightAt(branch);
      const taken = goesRight ? right : tape.add(tape.constant(1), tape.scale(right, -1));
      share = tape.multiply(share, taken);
      branch = 2 * branch + (goesRight ? 2 : 1);
    }
    return share;
  });
}

const step: RefereeLoop['step'] = (seen, { name, block, scaled }) => {
  const { tape, variable } = seen;
  const of = name.split('.')[0]!;
  const leaves = sharesOf(seen).map((share, leaf) =>
    tape.scale(tape.multiply(share, variable(`leafRates/${of}`)[leaf]!), leafRateScale),
  );
  const rate = tape.add(variable(`rates/${of}`)[0]!, ...leaves);
  return block.map((node, index) =>
    tape.add(node, tape.scale(tape.multiply(rate, scaled[index]!), -1)),
  );
};

const variants = [
  { innerSteps: 1, order: 'second', path: 'kept' },
  { innerSteps: 4, order: 'first', path: 'kept' },
  { innerSteps: 4, order: 'second', path: 'kept' },
  { innerSteps: 4, order: 'second', path: 'recomputed' },
] as const;

describe('the outer gradient', () => {
  test.each(variants)('$innerSteps inner steps, $order order, $path', (variant) => {
    const tree = { treeDepth: depth, leafRateScale, attributes };
    const settings = { kind: 'paml-rate', innerRate, ...tree, ...variant };
    return jobs.expectOuterGradient(settings, { step });
  });
});
