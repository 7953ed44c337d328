// Posterior blocks: the outer gradient against central differences of an outer loss whose modes another
// implementation finds in float64, and the special cases: the level shift and ridge regression. Seen to fail: means
// without their shrinkage, prior means left out of the pull, impressions left out of the evidence, padding that has
// slopes, one Newton step instead of eight.

import { describe, expect, test } from 'vitest';
import { methodMisfits } from '../../../shared/methods/methods.js';
import { LEVEL_DEVIATION } from '../../../shared/methods/inner-loop/inner-loop-settings.js';
import type { Adaptation } from '../../../shared/queue/protocol.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';
import {
  jobCaseOf,
  relativeDifference,
  type CaseWork,
  type JobCase,
} from '../../fixtures/compute/compute-inputs.js';
import { methodOf } from '../../fixtures/compute/methods.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';
import { mixed, shrinkDense } from '../gradient-expectations.js';
import { jobRunner } from '../job-runner.js';
import { taskWeights } from '../method-jobs.js';
import {
  denseValuesOf,
  logitsAt,
  queryOf,
  supportOf,
  taskLoss,
  type RowSpan,
  type Values,
} from '../referee.js';

const store = tinyTaskStore({ ...mixed, numberCount: 1 });
const indices = store.tasks.map(({ taskIndex }) => taskIndex);
const PERSONAL = ['bias', 'output.weight'];
const WIDTH = 3;
const steps = { innerSteps: 8, innerRate: 0.3 };

const jobs = jobRunner();

function caseOf(settings: Record<string, unknown>, personal = ['bias', 'output']): JobCase {
  const method = methodOf({ kind: 'posterior', ...steps, ...settings });
  const jobCase = jobCaseOf(
    store,
    { embeddingWidth: 2, hiddenWidths: [WIDTH], personal },
    5,
    method,
  );
  shrinkDense(jobCase, 'posterior.deviation/');
  return jobCase;
}

/** Gauss-Jordan elimination. */
function solved(matrix: readonly (readonly number[])[], column: readonly number[]): number[] {
  const rows = matrix.map((row, at) => [...row, column[at]!]);
  for (const [pivot, own] of rows.entries())
    for (const [at, row] of rows.entries()) {
      if (at === pivot) continue;
      const share = row[pivot]! / own[pivot]!;
      for (const place of row.keys()) row[place]! -= share * own[place]!;
    }
  return rows.map((row, at) => row.at(-1)! / row[at]!);
}

/** The fields of a row: tables with their linear column, then the number times its factors and weight. */
function fieldsOf({ meta }: JobCase, dense: Values, task: TaskRows, row: number): number[] {
  const ofTables = task.categoryIds.flatMap((ids, place) => {
    const { values } = meta.tables.get(`category${place}`)!;
    return [...values.subarray(ids[row]! * 3, ids[row]! * 3 + 3)];
  });
  const number = task.numbers[0]![row]!;
  const slopes = [...dense.get('numbers.factors')!, ...dense.get('numbers.linear')!];
  return [...ofTables, ...slopes.map((slope) => slope * number)];
}

function valuesWith(dense: Values, values: readonly number[]): Values {
  return new Map(dense)
    .set('bias', Float64Array.of(values[0]!))
    .set('output.weight', Float64Array.from(values.slice(1)));
}

/** The mode of a task's posterior by damped Newton steps until none moves. Logits are linear, so differences are slopes. */
function modeOf(jobCase: JobCase, dense: Values, task: TaskRows, factor = 1): Values {
  const { spec, meta } = jobCase;
  const logitsWith = (values: readonly number[], span: RowSpan): number[] =>
    logitsAt(spec, meta, valuesWith(dense, values), task, span);
  const span = supportOf(task);
  const joined = (of: (name: string) => Float64Array): number[] =>
    PERSONAL.flatMap((name) => [...of(name)]);
  const theta = joined((name) => dense.get(name)!);
  const precisions = joined((name) => dense.get(`posterior.deviation/${name}`)!).map(
    (value) => (Math.exp(-20 * value) + 1e-6) / factor,
  );
  const impressions = task.impressions.subarray(0, span.end);
  const total = impressions.reduce((sum, count) => sum + count, 0);
  const pooled = [...impressions].map((count, row) =>
    fieldsOf(jobCase, dense, task, row).map((field) => (field * count) / (total + 3)),
  );
  const prior = theta.map((value, at) => {
    const weights = PERSONAL.map((name) => dense.get(`posterior.mean/${name}`)!);
    const [own, width, column] = at === 0 ? [weights[0]!, 1, 0] : [weights[1]!, WIDTH, at - 1];
    return pooled.reduce(
      (sum, fields) =>
        fields.reduce((part, field, place) => part + field * own[place * width + column]!, sum),
      value,
    );
  });
  const zero = theta.map(() => 0);
  const base = logitsWith(zero, span);
  const slopes = theta.map((_, at) =>
    logitsWith(zero.with(at, 1), span).map((z, row) => z - base[row]!),
  );
  let values = prior;
  for (let step = 0; step < 200; step += 1) {
    const rows = logitsWith(values, span).map((z, row) => {
      const mean = task.loss === 'squared' ? z : 1 / (1 + Math.exp(-z));
      const variance = task.loss === 'squared' ? 1 : mean * (1 - mean);
      return {
        residual: impressions[row]! * mean - task.clicks[row]!,
        variance: impressions[row]! * variance,
      };
    });
    const slope = values.map((value, at) =>
      rows.reduce(
        (sum, { residual }, row) => sum + residual * slopes[at]![row]!,
        precisions[at]! * (value - prior[at]!),
      ),
    );
    const curvature = values.map((_, a) =>
      values.map((__, b) =>
        rows.reduce(
          (sum, { variance }, row) => sum + variance * slopes[a]![row]! * slopes[b]![row]!,
          a === b ? precisions[a]! : 0,
        ),
      ),
    );
    const length = solved(curvature, slope);
    const size = Math.max(...length.map(Math.abs));
    values = values.map((value, at) => value - length[at]! / Math.max(1, 2 * size));
    if (size < 1e-12) break;
  }
  return valuesWith(dense, values);
}

function outerLoss(jobCase: JobCase, dense: Values, tasks: readonly TaskRows[]): number {
  return tasks.reduce((sum, task, place) => {
    const at = modeOf(jobCase, dense, task);
    const { loss } = taskLoss(jobCase.spec, jobCase.meta, at, task, queryOf(task));
    return sum + taskWeights[place]! * loss;
  }, 0);
}

describe('the outer gradient', () => {
  test('of every variable is that of the loss at the modes', async () => {
    const jobCase = caseOf({});
    const { spec, meta } = jobCase;
    const tasks = await store.readTasks(indices);
    const method = methodOf({ kind: 'posterior', ...steps });
    const work: CaseWork = { kind: 'gradient', method, taskWeights };
    const found = await jobs.run(jobCase, work);
    const dense = denseValuesOf(meta);
    expect(found.weightedQueryLoss).toBeCloseTo(outerLoss(jobCase, dense, tasks), 5);
    const step = 1e-5;
    for (const { name } of spec.variables) {
      const values = dense.get(name)!;
      const expected = Array.from(values, (_, index) => {
        const at = (offset: number): number => {
          const moved = values.map((value, i) => (i === index ? value + offset : value));
          return outerLoss(jobCase, new Map(dense).set(name, moved), tasks);
        };
        return (at(step) - at(-step)) / (2 * step);
      });
      expect(relativeDifference(found.tensors.get(name)!, expected), name).toBeLessThan(5e-4);
    }
  });

  test('of a row of a table is that of the loss at the modes, through prior means and features', async () => {
    const jobCase = caseOf({});
    const tasks = await store.readTasks(indices);
    const method = methodOf({ kind: 'posterior', ...steps });
    const found = await jobs.run(jobCase, { kind: 'gradient', method, taskWeights });
    const dense = denseValuesOf(jobCase.meta);
    const table = jobCase.meta.tables.get('category0')!;
    const step = 2 ** -9;
    const expected = Array.from({ length: 9 }, (_, place) => {
      const at = (offset: number): number => {
        const values = table.values.slice();
        values[place]! += offset;
        const tables = new Map(jobCase.meta.tables).set('category0', { ...table, values });
        return outerLoss({ ...jobCase, meta: { ...jobCase.meta, tables } }, dense, tasks);
      };
      return (at(step) - at(-step)) / (2 * step);
    });
    expect(relativeDifference(found.tensors.get('rows')!.subarray(0, 9), expected)).toBeLessThan(
      2e-3,
    );
  });
});

async function queryLogits(
  jobCase: JobCase,
  settings: { readonly kind: string; readonly [setting: string]: unknown },
  ...adaptations: Adaptation[]
): Promise<Float32Array> {
  const work: CaseWork = {
    kind: 'predict',
    method: methodOf(settings),
    adaptations,
    rows: 'query',
  };
  return (await jobs.run(jobCase, work)).tensors.get('logits')!;
}

test('predictions are those of the modes, and a rate is a factor of the prior variances', async () => {
  const jobCase = caseOf({});
  const tasks = await store.readTasks(indices);
  const dense = denseValuesOf(jobCase.meta);
  const expectedBy = (factor: number): number[] =>
    tasks.flatMap((task) =>
      logitsAt(
        jobCase.spec,
        jobCase.meta,
        modeOf(jobCase, dense, task, factor),
        task,
        queryOf(task),
      ),
    );
  const found = await queryLogits(
    jobCase,
    { kind: 'posterior', ...steps },
    { innerRate: 0.3, innerSteps: 8 },
    { innerRate: 1.2, innerSteps: 10 },
  );
  const expected = [...expectedBy(1), ...expectedBy(4)];
  expect(relativeDifference(found, expected)).toBeLessThan(1e-4);
});

test('with the bias alone it is the level shift', async () => {
  const alone = caseOf({ inputMeans: false }, ['bias']);
  const shift = { kind: 'maml', ...steps, innerSteps: 1, levelShift: true };
  const model = { embeddingWidth: 2, hiddenWidths: [WIDTH], personal: [] };
  const shifted = jobCaseOf(store, model, 5, methodOf(shift));
  for (const [name, { values }] of alone.meta.dense)
    shifted.meta.dense.get(name)?.values.set(values);
  for (const [name, { values }] of alone.meta.tables)
    shifted.meta.tables.get(name)?.values.set(values);
  shifted.meta.dense
    .get(LEVEL_DEVIATION)!
    .values.set(alone.meta.dense.get('posterior.deviation/bias')!.values);
  const cells = [
    { innerRate: 0.3, innerSteps: 8 },
    { innerRate: 1.2, innerSteps: 8 },
  ];
  const settings = { kind: 'posterior', ...steps, inputMeans: false };
  const found = await queryLogits(alone, settings, ...cells);
  const expected = await queryLogits(shifted, shift, ...cells);
  expect(relativeDifference(found, expected)).toBeLessThan(1e-5);

  const gradientOf = (jobCase: JobCase, by: typeof settings | typeof shift) =>
    jobs.run(jobCase, { kind: 'gradient', method: methodOf(by), taskWeights });
  const gradient = await gradientOf(alone, settings);
  const ofShift = await gradientOf(shifted, shift);
  for (const { name } of alone.spec.variables) {
    const other = name.startsWith('posterior.') ? LEVEL_DEVIATION : name;
    expect(
      relativeDifference(gradient.tensors.get(name)!, ofShift.tensors.get(other)!),
      name,
    ).toBeLessThan(2e-4);
  }
});

test('of values it is ridge regression on the features: one step suffices', async () => {
  const values = tinyTaskStore({
    taskCount: 4,
    categoryRowCounts: [3],
    losses: ['squared'],
    seed: 3,
  });
  const method = { kind: 'posterior', ...steps };
  const model = { embeddingWidth: 2, hiddenWidths: [WIDTH], personal: ['bias', 'output'] };
  const jobCase = jobCaseOf(values, model, 5, methodOf(method));
  shrinkDense(jobCase, 'posterior.deviation/');
  const logits = await queryLogits(
    jobCase,
    method,
    { innerRate: 0.03, innerSteps: 1 },
    { innerRate: 0.03, innerSteps: 5 },
  );
  const [one, five] = [logits.subarray(0, logits.length / 2), logits.subarray(logits.length / 2)];
  expect(relativeDifference(one, five)).toBeLessThan(1e-4);
});

test.each([[], ['bias', 'layer0'], ['adgroupEmbedding']])(
  'refuses the personal blocks %j',
  (...blocks) => {
    const misfits = methodMisfits(methodOf({ kind: 'posterior' }), { personal: blocks });
    expect(misfits).toMatchObject([{ path: ['kind'] }]);
  },
);
