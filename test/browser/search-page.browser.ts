/** The page that a search writes: all columns of its trials are in sight in a window of 1,300 pixels. */

import { asPage } from '../../coordinator/reports/document/as-page.js';
import { sweepDocument } from '../../coordinator/reports/sweep-document.js';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { recordedSearch } from '../fixtures/evaluation/recorded-search.js';
import { overhangOf, PHONE_WIDTH } from './browser-room.js';
import { openChromium } from './chromium.js';

const WINDOW_WIDTH = 1_300;

let browser: Browser;
beforeAll(async () => {
  browser = await openChromium();
});
afterAll(() => browser.close());

it.each([WINDOW_WIDTH, PHONE_WIDTH])('fits a window of %i pixels', async (width) => {
  const page = await browser.newPage({ viewport: { width, height: 1_600 } });
  await page.setContent(asPage(sweepDocument(recordedSearch())));
  expect(await overhangOf(page)).toBe(0);
  const hidden = await page.evaluate<number[]>(
    '[...document.querySelectorAll(".card")].map((card) => card.scrollWidth - card.clientWidth)',
  );
  if (width === WINDOW_WIDTH) expect(hidden).toEqual(hidden.map(() => 0));
  await page.close();
});
