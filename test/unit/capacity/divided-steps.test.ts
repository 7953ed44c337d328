/** Steps of unequal jobs on many workers, whole and in parts, with numbers worked by hand. */

import { describe, expect, test } from 'vitest';
import { predicted, type Prediction } from '../../../coordinator/capacity/capacity-plan.js';
import { simulatedOrders } from '../../../coordinator/capacity/simulated-orders.js';
import type { StepCosts } from '../../../coordinator/capacity/step-costs.js';
import { alikeSteps, computeAlone, jobOfCosts } from './planned-jobs.js';

/** The last job has eight micro-batches of 40 ms, which is half of all work; eight jobs have 40 ms each. */
const jobs = [
  ...Array.from({ length: 8 }, (_, jobIndex) => jobOfCosts(jobIndex, [40])),
  jobOfCosts(8, Array<number>(8).fill(40)),
];
const divided = { dividesJobs: true, overlap: 1, partByteCountMax: Infinity };
const whole = { dividesJobs: false, overlap: 1, partByteCountMax: Infinity };

function prediction(
  workerCount: number,
  division = divided,
  costs: StepCosts = computeAlone,
  steps = [jobs],
): Prediction {
  const planned = alikeSteps(() => steps.flat(), division);
  return predicted(costs, planned, { workerCount, jobSize: 8, steps });
}

describe('a step whose largest job has half of all work', () => {
  test('takes as long as that job where jobs are whole', () => {
    // 640 ms; the eight others fit beside the large one from two workers on.
    expect([1, 2, 4, 8].map((count) => prediction(count, whole).stepMs)).toEqual([
      ...[640, 320, 320, 320],
    ]);
    expect(prediction(8, whole)).toMatchObject({ orderCount: 9, bound: 'jobs' });
  });

  test('is divided among all workers where jobs travel in parts', () => {
    // A share is 640 / W ms: on two workers the large job fits, on four it leads with 160 ms, of four micro-batches,
    // on eight with 80 ms, of two, beside six others and the eight jobs of 40 ms.
    expect([1, 2, 4, 8].map((count) => prediction(count).stepMs)).toEqual([640, 320, 160, 80]);
    expect([1, 2, 4, 8].map((count) => prediction(count).orderCount)).toEqual([9, 9, 13, 15]);
    expect(prediction(8).bound).toBe('workers');
  });

  test('ends with its largest micro-batch however many workers there are', () => {
    expect(prediction(100).stepMs).toBe(40);
    expect(prediction(100).bound).toBe('jobs');
  });

  test('is divided as far as outer steps that overlap leave workers idle', () => {
    // Two steps have 1,280 ms, of which a share of four workers is the large job.
    expect(prediction(4, { ...divided, overlap: 2 }).orderCount).toBe(9);
    expect(prediction(8, { ...divided, overlap: 2 }).orderCount).toBe(13);
  });
});

test('a job of one large micro-batch bounds a step of many jobs', () => {
  const steps = [[...jobs.slice(0, 7), jobOfCosts(7, [360])]];
  expect(prediction(4, divided, computeAlone, steps)).toMatchObject({ stepMs: 360, bound: 'jobs' });
});

test('is a mean over steps of other shapes', () => {
  const steps = [[jobOfCosts(0, [100])], [jobOfCosts(0, [50]), jobOfCosts(1, [250])]];
  expect(prediction(2, divided, computeAlone, steps)).toMatchObject({
    ...{ stepMs: 175, orderCount: 1.5 },
  });
});

describe('parts of a job', () => {
  test('are sent like jobs, larger ones than usual first', () => {
    const orders = simulatedOrders(jobs, computeAlone, 4, divided);
    expect(orders.map(({ paddedRowCount }) => paddedRowCount)).toEqual([
      160,
      ...Array<number>(12).fill(40),
    ]);
    // All parts read the rows of the job, and the first to be sent brings them.
    expect(orders.map(({ rowCount }) => rowCount)).toEqual([
      ...[320, ...Array<number>(8).fill(40), ...Array<number>(4).fill(320)],
    ]);
    expect(orders.map(({ ownRowCount }) => ownRowCount)).toEqual([
      ...[160, ...Array<number>(12).fill(40)],
    ]);
    expect(orders.map(({ bringsInputs }) => bringsInputs)).toEqual([
      ...[...Array<boolean>(9).fill(true), ...Array<boolean>(4).fill(false)],
    ]);
    expect(orders.map(({ hasExactSums }) => hasExactSums)).toEqual([
      ...[true, ...Array<boolean>(12).fill(false)],
    ]);
  });

  test('are none where the queue does not carry 64-bit sums', () => {
    // The largest job has 320 rows, and so 640 bytes as sums.
    const costs = { ...computeAlone, outputByteCount: { perJob: 0, perRow: 1 } };
    const ordersWithin = (partByteCountMax: number) =>
      simulatedOrders(jobs, costs, 4, { ...divided, partByteCountMax });
    expect(ordersWithin(640).length).toBeGreaterThan(jobs.length);
    expect(ordersWithin(639)).toHaveLength(jobs.length);
  });

  test('cost the coordinator as much as jobs each', () => {
    // The coordinator alone: 13 orders of 10 ms.
    const costs = { ...computeAlone, coordinatorMs: { perJob: 10, perRow: 0 } };
    expect(prediction(4, divided, costs).busy.coordinator).toBeCloseTo(
      130 / prediction(4, divided, costs).stepMs,
      9,
    );
  });

  test('are idle by their own rows', () => {
    // On four workers, all of which compute 160 ms: the leading part is idle for 10 ms and 16 ms, four orders of 40 rows
    // for 10 ms and 4 ms each.
    const costs = { ...computeAlone, idleMs: { perJob: 10, perRow: 0.1 } };
    expect(prediction(4, divided, costs).stepMs).toBeCloseTo(160 + 4 * 14, 9);
    expect(prediction(1, divided, costs).stepMs).toBeCloseTo(640 + 9 * 10 + 64, 9);
  });

  test('have the inputs of the job carried to the server once, and outputs of leading parts twice as large', () => {
    // A byte for each row and no work but the server's. To it 640; from it 640 and four times the 320 of the parts;
    // outputs of 640, four times 320, and once more 320 for sums in 64 bits.
    const costs = {
      ...{ ...computeAlone, inputByteCount: { perJob: 0, perRow: 1 } },
      outputByteCount: { perJob: 0, perRow: 1 },
    };
    const { busy, stepMs } = prediction(4, divided, costs);
    expect(busy.server * stepMs).toBeCloseTo(640 + 640 + 4 * 320 + 640 + 4 * 320 + 320, 6);
    const undivided = prediction(4, whole, costs);
    expect(undivided.busy.server * undivided.stepMs).toBeCloseTo(3 * 640, 6);
  });

  test('are not made where they save less than production demands', () => {
    // The large job takes 14 ms longer than the share of a worker at 14/160 ms a row, and 15 ms at 15/160.
    const at = (perRow: number) => ({ ...computeAlone, computeMs: { perJob: 0, perRow } });
    expect(prediction(4, divided, at(14 / 160)).orderCount).toBe(9);
    expect(prediction(4, divided, at(15 / 160)).orderCount).toBe(13);
  });
});
