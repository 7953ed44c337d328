/**
 * The query loss before adaptation is that of the logits which a predict job gives without a step, for every method that
 * adapts, and asking for it changes no bit of the gradient. Seen to fail: with the loss after one step, with that of
 * the support rows, and with the rows of another task.
 */

import { expect, test } from 'vitest';
import { type CaseWork, jobCaseOf } from '../../fixtures/compute/compute-inputs.js';
import { methodOf } from '../../fixtures/compute/methods.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';
import { rich } from '../gradient-expectations.js';
import { allOf, jobRunner } from '../job-runner.js';
import { model, taskWeights } from '../method-jobs.js';

const STEPS = { innerSteps: 2, innerRate: 0.2 };
const ATTRIBUTES = { attributes: ['category1'] };
const CASES: readonly [settings: Parameters<typeof methodOf>[0], departures?: object][] = [
  [{ kind: 'fomaml', ...STEPS }],
  [{ kind: 'paml-gate', ...STEPS, ...ATTRIBUTES }],
  [
    { kind: 'meta-embedding', ...ATTRIBUTES, ...STEPS },
    { personal: [], adgroupEmbedding: false, generated: 'category0' },
  ],
];
const { run } = jobRunner();

test.each(CASES)('%s', async (settings, departures = {}) => {
  const method = methodOf(settings);
  const store = tinyTaskStore({ ...rich, hasEmptySets: true });
  const jobCase = jobCaseOf(
    { ...store, digest: JSON.stringify(settings) },
    { ...model, ...departures },
    5,
    method,
  );
  const indices = allOf(store);
  const weights = taskWeights.slice(0, indices.length);
  const work: CaseWork = {
    ...{ kind: 'gradient', method, taskWeights: weights, coldTaskWeights: weights },
  };
  const plain = await run(jobCase, work, indices);
  const asked = await run(jobCase, { ...work, queryLossBefore: true }, indices);
  expect(asked.tensors).toEqual(plain.tensors);
  expect(plain.weightedQueryLossBefore).toBeUndefined();

  const adaptations = [{ innerRate: 0.2, innerSteps: 0 }];
  const { tensors } = await run(
    jobCase,
    { kind: 'predict', method, adaptations, rows: 'query' },
    indices,
  );
  const logits = tensors.get('logits')!;
  let row = 0;
  const losses = (await store.readTasks(indices)).map((task) => {
    let [sum, impressions] = [0, 0];
    for (let place = task.supportRowCount; place < task.rowCount; place += 1, row += 1) {
      const [z, count] = [logits[row]!, task.impressions[place]!];
      sum += count * Math.log1p(Math.exp(z)) - task.clicks[place]! * z;
      impressions += count;
    }
    return impressions === 0 ? 0 : sum / impressions;
  });
  const expected = losses.reduce((sum, loss, place) => sum + loss * taskWeights[place]!, 0);
  expect(asked.weightedQueryLossBefore).toBeCloseTo(expected, 5);
  // Adaptation changes the loss, so that the two are not mistaken for each other.
  expect(Math.abs(asked.weightedQueryLossBefore! - asked.weightedQueryLoss)).toBeGreaterThan(1e-4);
});
