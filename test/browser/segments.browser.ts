/**
 * The pages of a run with segments, of its losses before and after adaptation, and its status as one file: by keyboard
 * alone, in light and dark, and as narrow as a phone.
 */

import type { Browser } from 'playwright-core';
import { beforeAll, expect, it } from 'vitest';
import { segmentLog, segmentRun } from '../fixtures/commands/segment-log.js';
import { dashboardRoom, expectSoundPages, LOOKS, openedPage } from './browser-room.js';
import { tabTo } from './chromium.js';
import { openedOnce } from '../fixtures/opened.js';

const opened = openedOnce(() =>
  dashboardRoom(async (room) => {
    const run = segmentRun();
    run.training.outerSteps = 40;
    await room.write('log.csv', segmentLog());
    await room.write('run.yaml', JSON.stringify(run));
    for (const verb of ['prepare', 'train', 'evaluate']) await room.done([verb, 'run.yaml']);
  }),
);
let browser: Browser;
let url: string;

beforeAll(() => {
  ({ browser, url } = opened);
});

it('leads by keyboard from the adgroups of a segment to those of another, and to one of them', async () => {
  const page = await openedPage(browser, `${url}/runs/run/adgroup`);
  expect(await page.textContent('#segments [aria-current]')).toBe('buyer');
  await tabTo(page, /^newcomer$/);
  await page.keyboard.press('Enter');
  await page.waitForURL(`${url}/runs/run/adgroup?segment=newcomer`);
  const [first = ''] = await page.locator('#adgroup tbody th').allTextContents();
  expect(first).toMatch(/^shop\d+, newcomer$/);
  await tabTo(page, /^One of \d+ test adgroups of segment newcomer/);
  await page.keyboard.type(first);
  await page.keyboard.press('Enter');
  await page.waitForURL(/segment=newcomer&name=/);
  expect(await page.textContent('h1')).toBe(`Adgroup ${first}`);
  expect(await page.textContent('#adgroup')).toMatch(/query logloss\s*before adaptation/);
});

it('shows the query loss before adaptation, and draws what adaptation gains', async () => {
  const page = await openedPage(browser, `${url}/runs/run`);
  expect(await page.textContent('#facts')).toMatch(
    /0\.\d{4}query loss before adaptation\s*0\.\d{4} after, in step 40/,
  );
  const gain = page.locator('figure:has(:text-is("Gain by adaptation"))').last();
  expect(await gain.locator('svg').count()).toBe(1);
  await gain.locator('summary').click();
  expect(await gain.locator('tbody th').allTextContents()).toEqual(['1', '10', '20', '30', '40']);
});

it.each(LOOKS)('has nothing serious for axe and fits, %s, %d pixels', (...look) =>
  expectSoundPages(
    browser,
    {
      'segments-run': `${url}/runs/run`,
      'segments-adgroups': `${url}/runs/run/adgroup?segment=regular`,
      'segments-nobody': `${url}/runs/run/adgroup?name=nobody`,
    },
    look,
  ),
);
