// The loss of a task is a mean over impressions, so the gradient over all rows is the mean of those over the parts of any
// division of the rows that are drawn, weighted by their impressions: the inputs and the adaptation of a row
// do not depend on which others are drawn. In episodes, that are those with the same support rows.
import { expect, test } from 'vitest';
import { rowPackLayoutOf } from '../../../shared/tasks/row-pack.js';
import { withDrawnRows } from '../../../shared/tasks/task-copies.js';
import { adapts } from '../../../shared/methods/inner-loop/method.js';
import { methodPlanOf } from '../../../shared/methods/methods.js';
import { jobCaseOf, relativeDifference } from '../../fixtures/compute/compute-inputs.js';
import { methodOf } from '../../fixtures/compute/methods.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';
import { rich } from '../gradient-expectations.js';
import { jobRunner } from '../job-runner.js';
import { model, taskWeights } from '../method-jobs.js';

const { run } = jobRunner();
const supportInputs = {
  clickRate: true,
  count: true,
  targetEncodings: ['category1'],
  smoothing: 5,
};
const indices = taskWeights.map((_, task) => task);

/** Gradients of variables by name, and of table rows by table and id. */
type Gradients = Map<string, number[]>;

test.each([
  ['global', { kind: 'global' }],
  ['first-order steps', { kind: 'fomaml', innerSteps: 2 }],
  ['posterior blocks', { kind: 'posterior' }],
])('with %s, parts of the rows add up to the gradient of all', async (_, settings) => {
  const method = methodOf(settings);
  const inEpisodes = adapts(methodPlanOf(method));
  const store = tinyTaskStore({ ...rich, supportRowCountMax: 5, queryRowCountMax: 6 });
  const jobCase = jobCaseOf(store, { ...model, supportInputs }, 5, method);
  const tasks = await store.readTasks(indices);

  const gradientOf = async (
    drawnRows: number[][] | null,
    chosen: readonly number[],
    weights: number[],
  ): Promise<Gradients> => {
    const supportCounts = chosen.map((index) => tasks[index]!.supportRowCount);
    const { tensors } = await run(
      jobCase,
      {
        ...{ kind: 'gradient', method, taskWeights: weights },
        ...(drawnRows === null ? {} : { drawnRows }),
        ...(drawnRows === null || !inEpisodes ? {} : { drawnSupportCounts: supportCounts }),
      },
      chosen,
    );
    const drawn =
      drawnRows === null
        ? null
        : { byTask: drawnRows, supportCounts: inEpisodes ? supportCounts : null };
    const rows = withDrawnRows(
      chosen.map((index) => tasks[index]!),
      drawn,
    );
    const { idsByTable, startByTable } = rowPackLayoutOf(rows);
    const width = jobCase.spec.tableRowWidth;
    const found: Gradients = new Map();
    for (const [name, values] of tensors)
      if (name !== 'rows') found.set(name, [...values]);
      else
        for (const [table, ids] of idsByTable.entries())
          for (const [place, id] of ids.entries()) {
            const from = (startByTable[table]! + place) * width;
            found.set(`${table}/${id}`, [...values.subarray(from, from + width)]);
          }
    return found;
  };

  const sums: Gradients = new Map();
  for (const part of [0, 1]) {
    // The rows of even and odd places, of tasks that have such rows.
    const rowsOf = indices.map((index) => {
      const { rowCount, supportRowCount } = tasks[index]!;
      const first = inEpisodes ? supportRowCount : 0;
      return Array.from({ length: rowCount - first }, (_, row) => first + row).filter(
        (row) => row % 2 === part,
      );
    });
    const impressionsOf = (index: number, rows: readonly number[]): number =>
      rows.reduce((sum, row) => sum + tasks[index]!.impressions[row]!, 0);
    const chosen = indices.filter((index) => rowsOf[index]!.length > 0);
    const weights = chosen.map((index) => {
      const { rowCount, supportRowCount } = tasks[index]!;
      const first = inEpisodes ? supportRowCount : 0;
      const all = Array.from({ length: rowCount - first }, (_, row) => first + row);
      return (
        (taskWeights[index]! * impressionsOf(index, rowsOf[index]!)) / impressionsOf(index, all)
      );
    });
    const drawn = chosen.map((index) => {
      const { supportRowCount } = tasks[index]!;
      const support = Array.from({ length: inEpisodes ? supportRowCount : 0 }, (_, row) => row);
      return [...support, ...rowsOf[index]!];
    });
    for (const [name, values] of await gradientOf(drawn, chosen, weights))
      sums.set(
        name,
        values.map((value, place) => value + (sums.get(name)?.[place] ?? 0)),
      );
  }
  const whole = await gradientOf(null, indices, [...taskWeights]);
  for (const [name, values] of whole)
    expect(relativeDifference(sums.get(name) ?? [], values), name).toBeLessThan(2e-5);
});
