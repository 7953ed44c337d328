/** The picture of a plan: a line for each choice, within the frame, whatever the throughput. */

import { expect, test } from 'vitest';
import { capacitySvg } from '../../../coordinator/reports/capacity/capacity-chart.js';
import { capacityPlan } from '../../../coordinator/capacity/capacity-plan.js';
import { alikeSteps, computeAlone, equalJobs } from './planned-jobs.js';

const costs = { ...computeAlone, serialMs: 1, computeMs: { perJob: 1, perRow: 1 } };
const planned = alikeSteps((size) => equalJobs(64, size));

test.each([[[1]], [[1, 10, 100]], [[1, 3, 10_000]]])('of %j workers', (workerCounts) => {
  const svg = capacitySvg(capacityPlan(costs, planned, workerCounts));
  const lines = [...svg.matchAll(/<polyline points="([^"]*)"/g)].map(([, places = '']) =>
    places.split(' ').map((place) => place.split(',').map(Number)),
  );
  expect(lines.map((line) => line.length)).toEqual([workerCounts.length, workerCounts.length]);
  for (const [x = -1, y = -1] of lines.flat()) {
    expect(x).toBeGreaterThanOrEqual(70);
    expect(x).toBeLessThanOrEqual(490);
    expect(y).toBeGreaterThanOrEqual(20);
    expect(y).toBeLessThanOrEqual(310);
  }
  expect(svg).not.toContain('NaN');
});
