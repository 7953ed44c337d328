/** The page that a search writes: all columns of its trials are in sight in a window of 1,300 pixels. */

import { asPage } from '../../coordinator/reports/document/as-page.js';
import { sweepDocument } from '../../coordinator/reports/sweep-document.js';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { recordOf } from '../fixtures/evaluation/recorded-search.js';
import { overhangOf, PHONE_WIDTH } from './browser-room.js';
import { openChromium } from './chromium.js';

const WINDOW_WIDTH = 1_300;

const SETTINGS = {
  ...{ model: 'wide deepfm', 'support inputs': 'neighbours', adapts: 'generated blocks' },
  ...{ rate: 0.005, regularisation: 'dropout', draws: 'adgroups' },
};

const CELL = { kind: 'inner-steps', innerRate: 0.125, innerSteps: 10 } as const;

let browser: Browser;
beforeAll(async () => {
  browser = await openChromium();
});
afterAll(() => browser.close());

function pageOfSearch(): string {
  const record = recordOf(
    { t01: [[4], [3], [2]], t02: [[4.2], [3.2], [2.2]], t03: [[5]], a01: [[1.9]], s01: [[1.8]] },
    { averages: { a01: ['t01', 't02', 't03'] }, shifts: { s01: 'a01' } },
  );
  const trials = record.trials.map((trial) => ({
    ...trial,
    settings: {
      ...(/^t/.test(trial.name) ? SETTINGS : {}),
      ...(trial.name === 'a01' ? { 'made of': 'mean of t01, t02, t03' } : {}),
      ...(trial.name === 's01' ? { 'made of': 'a01 and a shift' } : {}),
    },
    scores: trial.scores.map((score) => ({ ...score, cell: CELL })),
  }));
  return asPage(sweepDocument({ ...record, trials }));
}

it.each([WINDOW_WIDTH, PHONE_WIDTH])('fits a window of %i pixels', async (width) => {
  const page = await browser.newPage({ viewport: { width, height: 1_600 } });
  await page.setContent(pageOfSearch());
  expect(await overhangOf(page)).toBe(0);
  const hidden = await page.evaluate<number[]>(
    '[...document.querySelectorAll(".card")].map((card) => card.scrollWidth - card.clientWidth)',
  );
  if (width === WINDOW_WIDTH) expect(hidden).toEqual(hidden.map(() => 0));
  await page.close();
});
