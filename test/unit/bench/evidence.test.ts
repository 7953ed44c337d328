/**
 * The bench of learning curves: the posterior of a known prior beside integration, what a world's generator knows of its rows,
 * and the verdicts of the page. Seen to fail: a posterior without moderation, features without the scale of latents, deviations of
 * tastes and responses exchanged, and an interval without the correction for shared rows.
 */

import { readFileSync } from 'node:fs';
import { expect, test, onTestFinished } from 'vitest';
import { evidencePage } from '../../bench/evidence/evidence-page.js';
import type { EvidenceCell } from '../../bench/evidence/evidence-record.js';
import { ceilingLosses, writeEvidenceWorld } from '../../bench/evidence/evidence-world.js';
import { laplacePosterior, predictiveLoss } from '../../bench/evidence/laplace-posterior.js';
import { intervalOver } from '../../bench/seed-intervals.js';
import { sigmoid } from '../../../shared/base/logistic.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

function levelRow(click: number, offset: number) {
  return { offset, features: [1], otherVariance: 0, click };
}

test('a level predicts as integration over it does', () => {
  const rows = Array.from({ length: 40 }, (_, row) =>
    levelRow(row % 5 === 0 ? 1 : 0, -2 + (row % 3)),
  );
  for (const count of [0, 1, 10, 40]) {
    const seen = rows.slice(0, count);
    let [sum, weights] = [0, 0];
    for (let phi = -6; phi <= 6; phi += 0.001) {
      let weight = Math.exp(-(phi * phi) / (2 * 0.5));
      for (const { offset, click } of seen) {
        const probability = sigmoid(offset + phi);
        weight *= click === 1 ? probability : 1 - probability;
      }
      sum += weight * sigmoid(-1 + phi);
      weights += weight;
    }
    const loss = predictiveLoss(levelRow(1, -1), laplacePosterior(seen, [0.5]));
    expect(Math.abs(Math.exp(-loss) - sum / weights)).toBeLessThan(0.006);
  }
});

const SIZES = {
  train: [
    { tasks: 2, supportRows: 5, queryRows: 5 },
    { tasks: 1, supportRows: 5, queryRows: 15 },
  ],
  validation: [{ tasks: 2, supportRows: 4, queryRows: 3 }],
  test: [{ tasks: 400, supportRows: 30, queryRows: 10 }],
  users: 500,
};

test('the generator knows its trunk and how adgroups deviate from it', async () => {
  const folder = await temporaryFolder();
  onTestFinished(() => folder.remove());
  const places = { log: `${folder.path}/rows.csv`, split: `${folder.path}/split.csv` };
  const world = writeEvidenceWorld(places, { clickRate: 0.1, seed: 1, sizes: SIZES });
  const [, ...lines] = readFileSync(places.log, 'utf8').trimEnd().split('\n');
  expect(lines).toHaveLength(2 * 10 + 20 + 2 * 7 + 400 * 40);
  const counts = new Map<string, number>();
  for (const { role } of world.roled) counts.set(role, (counts.get(role) ?? 0) + 1);
  expect(Object.fromEntries(counts)).toEqual({
    ...{ 'train-support': 15, 'train-query': 25, 'validation-support': 8 },
    ...{ 'validation-query': 6, 'test-support': 12_000, 'test-query': 4_000 },
  });
  const next = new Map<string, number>();
  const differing: number[] = [];
  let [squares, expected] = [0, 0];
  for (const [row, line] of lines.entries()) {
    const { task = '', role = '' } = world.roled[row] ?? {};
    if (!role.startsWith('test')) continue;
    const place = next.get(task) ?? 0;
    next.set(task, place + 1);
    const known = world.test[Number(task)]?.[place];
    const [click, probability] = line.split(',').slice(-2).map(Number);
    if (known?.click !== click) differing.push(row);
    const own = Math.log((probability ?? NaN) / (1 - (probability ?? NaN))) - (known?.trunk ?? NaN);
    squares += own * own;
    for (const [axis, feature] of (known?.features ?? []).entries())
      expected += (world.priorVariances[axis] ?? NaN) * feature * feature;
  }
  expect(differing).toEqual([]);
  expect(squares / expected).toBeGreaterThan(0.93);
  expect(squares / expected).toBeLessThan(1.07);
  const losses = ceilingLosses(world, [0, 30]);
  const [before = NaN, level = NaN] = losses['bayes-level'];
  expect(level).toBeLessThan(before);
  expect(losses.bayes[1]).toBeLessThan(level);
});

test('seeds that share rows have a wider interval', () => {
  // The mean 2 and the deviation 1 of three seeds, at 4.303 quantiles.
  const half = 4.303 * Math.sqrt(1 / 3);
  expect(intervalOver([1, 2, 3])).toEqual({ value: 2, low: 2 - half, high: 2 + half });
  const wider = 4.303 * Math.sqrt(1 / 3 + 0.25);
  expect(intervalOver([1, 2, 3], 0.25)).toEqual({ value: 2, low: 2 - wider, high: 2 + wider });
});

function cell(seed: number, level: number, posterior: number): EvidenceCell {
  const arms = { shift: 0.4, finetuned: 0.4, gradient: 0.4, global: 0.4 };
  const point = (supportRows: number, gain: number) => ({
    supportRows,
    losses: {
      ...arms,
      level: 0.4 - gain * level,
      posterior: 0.4 - gain * posterior,
      ...{ 'bayes-level': 0.4 - gain * 0.04, 'bayes-profile': 0.4 - gain * 0.05 },
      bayes: 0.4 - gain * 0.08,
    },
  });
  return {
    ...{ set: 'world-10', kind: 'world', seed, supportRows: 50 },
    ...{ commit: 'abc', date: '2026-12-01', machine: 'a machine', loadBefore: 0 },
    seconds: { global: 10, level: 5 },
    taskCounts: { train: 100, validation: 10, test: 20 },
    ...{ testRowCount: 1000, clickRate: 0.1, oracle: 0.3 },
    points: [point(0, 0), point(50, 1)],
  };
}

test('says where own rows pay, and how much of it the product has', () => {
  const cells = [cell(1, 0.03, 0.061), cell(2, 0.031, 0.06), cell(3, 0.032, 0.062)];
  const page = evidencePage({ cells: Object.fromEntries(cells.map((each) => [each.seed, each])) });
  expect(page).toContain(
    '- world-10: the level is better at 50 rows than the global model; own responses (`posterior`) are better at 50 rows than the level.',
  );
  expect(page).toContain('| 50 | 31.0 / 61.0 % |');
  expect(page).toContain('falls at every step');
  expect(page).toContain(
    '30 points of 40 at 50 rows (10 without the tastes of single users): at least half everywhere.',
  );
});
