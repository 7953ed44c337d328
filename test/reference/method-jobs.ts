/**
 * The shared parts of the method tests: an executor, jobs over five tasks with every kind of
 * feature, and a comparison of the method's outer gradient with the float64 referee, which knows
 * only the method's start and step.
 */

import { methodPlanOf } from '../../shared/methods/methods.js';
import type { LossKind } from '../../shared/tasks/task-label.js';
import type { TaskRows } from '../../shared/tasks/task-store.js';
import { jobCaseOf, type JobCase } from '../fixtures/compute/compute-inputs.js';
import { methodOf } from '../fixtures/compute/methods.js';
import { tinyTaskStore } from '../fixtures/stores/tiny-task-store.js';
import { expectGradient, rich } from './gradient-expectations.js';
import { allOf, jobRunner, type JobRunner } from './job-runner.js';
import { weightedSum } from './referee.js';
import { adaptedLoss, type RefereeLoop, type RefereeTask } from './second-order-referee.js';

/** The five tasks of `rich`. */
export const taskWeights = [0.1, 0.4, 0.2, 0.05, 0.25];
const coldTaskWeights = taskWeights.map((_, place) => 0.1 + 0.05 * place);

/** Personal blocks before, in and after the layers, on a trunk. */
export const model = {
  embeddingWidth: 3,
  hiddenWidths: [5, 4],
  adgroupEmbedding: true,
  personal: ['bias', 'adgroupEmbedding', 'layer1', 'output'],
};

/** A start and a step as nodes of the referee's tape. */
type RefereeRule = Pick<RefereeLoop, 'start' | 'step'>;

interface GradientCase {
  /** Loss kinds of the tasks in turn; binary by default. */
  readonly losses?: readonly LossKind[];
  readonly model?: typeof model;
  /** Tasks of the job; all tasks by default. */
  readonly taskIndices?: readonly number[];
  /** Sets the meta-parameters at which the method is tested. */
  readonly place?: (jobCase: JobCase) => void;
}

interface MethodJobs extends JobRunner {
  expectOuterGradient(
    settings: Parameters<typeof methodOf>[0],
    rule: RefereeRule,
    options?: GradientCase,
  ): Promise<void>;
}

/** To be called at the start of a test file: the executor lives as long as the tests of the file. */
export function methodJobs(): MethodJobs {
  const { run } = jobRunner();
  return {
    run,
    async expectOuterGradient(settings, rule, options = {}) {
      const { losses = ['binary'], place = () => undefined } = options;
      const method = methodOf(settings);
      const { innerLoop, outer, cold: coldTerm } = methodPlanOf(method);
      const store = tinyTaskStore({ ...rich, losses });
      const jobCase = jobCaseOf(store, options.model ?? model, 5, method);
      place(jobCase);
      const coldShare = coldTerm?.share ?? 0;
      const indices = options.taskIndices ?? allOf(store);
      const warmWeights = taskWeights.slice(0, indices.length);
      const coldWeights = coldTaskWeights.slice(0, indices.length);
      const found = await run(
        jobCase,
        { kind: 'gradient', method, taskWeights: warmWeights, coldTaskWeights: coldWeights },
        indices,
      );

      const { spec, meta } = jobCase;
      const tasks = await store.readTasks(indices);
      const { count: innerSteps, rate: innerRate } = innerLoop.steps;
      const order = outer.kind === 'derivative' && outer.order === 'second' ? 'second' : 'first';
      const loop: RefereeLoop = { innerSteps, innerRate, order, ...rule };
      const gradientOf = (task: TaskRows) => adaptedLoss(spec, meta, task, loop).gradient;
      // The cold term is judged on all rows and uses none of them.
      const judgedCold = coldShare === 0 ? [] : tasks;
      const cold = judgedCold.map((task) => gradientOf({ ...task, supportRowCount: 0 }));
      const expected = weightedSum(
        [...tasks.map(gradientOf), ...cold],
        [
          ...warmWeights.map((weight) => (1 - coldShare) * weight),
          ...coldWeights.map((weight) => coldShare * weight),
        ],
      );
      expectGradient(jobCase, found, expected, tasks);
    },
  };
}

/** Level and deviation of the labels of the support rows, and the features derived from them. */
export function labelEvidenceOf({ impressions, clicks, supportRowCount: end, loss }: TaskRows): {
  readonly total: number;
  readonly mean: number;
  readonly deviation: number;
  /** Half the logarithm of the size, and the level. */
  readonly known: readonly [number, number];
} {
  const sumOf = (values: Float32Array): number =>
    values.subarray(0, end).reduce((sum, value) => sum + value, 0);
  const [total, sum] = [sumOf(impressions), sumOf(clicks)];
  const size = Math.log1p(total) / 2;
  if (loss === 'squared') {
    const mean = sum / (total + 10);
    return { total, mean, deviation: 1, known: [size, mean] };
  }
  const mean = (sum + 1) / (total + 10);
  const level = Math.log((9 * mean) / (1 - mean)) / 2;
  return { total, mean, deviation: Math.sqrt(mean * (1 - mean)), known: [size, level] };
}

/** tanh x = 2 sigmoid(2 x) - 1 */
export function tanhOf({ tape }: Pick<RefereeTask, 'tape'>, node: number): number {
  return tape.add(tape.scale(tape.sigmoid(tape.scale(node, 2)), 2), tape.constant(-1));
}
