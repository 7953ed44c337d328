/** The pages of a real sweep and of a comparison: by keyboard alone, in light and dark, and as narrow as a phone. */

import type { Browser, Page } from 'playwright-core';
import { beforeAll, expect, it } from 'vitest';
import { dashboardRoom, expectSoundPages, LOOKS, openedPage } from './browser-room.js';
import { tabTo } from './chromium.js';
import { openedOnce } from '../fixtures/opened.js';

const SWEEP = {
  ...{ sweep: 'tiny', base: 'base.yaml', output: 'tiny', trialsKept: 3 },
  grid: { 'method.innerRate': [0.05, 0.1, 0.3] },
};

const opened = openedOnce(() =>
  dashboardRoom(async (room) => {
    const base = await room.config('base', (config) => {
      config['method'] = { kind: 'fomaml', innerSteps: 2, innerRate: 0.1 };
      config.training['outerSteps'] = 6;
      config['evaluation'] = {
        arms: ['constant', 'meta-unadapted', 'meta-adapted'],
        ...{ innerRates: [0.1], innerSteps: [1, 2], bootstrapSamples: 100 },
      };
    });
    await room.done(['prepare', base]);
    await room.write('sweep.yaml', JSON.stringify(SWEEP));
    await room.done(['sweep', 'sweep.yaml']);
    await room.done(['train', base]);
    await room.done(['evaluate', base]);
    await room.done(['compare', 'base', 'base:meta-unadapted', 'base:constant', '--out', 'arms']);
  }),
);
let browser: Browser;
let url: string;

beforeAll(() => {
  ({ browser, url } = opened);
});

const followed = async (page: Page, name: RegExp, path: string): Promise<void> => {
  await tabTo(page, name);
  await page.keyboard.press('Enter');
  await page.waitForURL(`${url}${path}`);
};

it('leads by keyboard from the list to a sweep, and from its best trial to the run', async () => {
  const page = await openedPage(browser, `${url}/sweeps`);
  await page.waitForSelector('#connection:text-is("live")');
  const kinds = await page.locator('#sweeps tbody tr td:nth-child(2)').allTextContents();
  expect(kinds.sort()).toEqual(['comparison', 'sweep']);
  await followed(page, /^tiny$/, '/sweeps/tiny');
  expect(await page.locator('#found tbody tr').count()).toBe(3);
  const losses = await page.locator('#found tbody td:nth-child(2)').allTextContents();
  expect(losses).toEqual([...losses].sort((a, b) => Number(a) - Number(b)));
  expect(await page.textContent('#found thead th:nth-child(3)')).toBe('method.innerRate');
  expect(await page.textContent('#found tbody td:nth-child(3)')).toMatch(/^0\.(05|1|3)$/);
  const best = (await page.textContent('#found tbody th')) ?? '';
  const [trial = ''] = best.split(' ');
  await followed(page, / \*$/, `/runs/tiny:trials:${trial}`);
  await page.waitForSelector('#state .state:text-is("finished")');
});

it('shows the arms of a comparison with their differences, and the report of it', async () => {
  const page = await openedPage(browser, `${url}/sweeps/arms`);
  expect(await page.locator('#found dt a').count()).toBe(3);
  const table = page.locator('[aria-label="Differences"] tbody');
  const differences = await table.locator('td:is(:nth-child(2), :nth-child(4))').allTextContents();
  // Of two runs from the first, by impression and by adgroup.
  expect(differences).toHaveLength(4);
  for (const text of differences)
    expect(text).toMatch(/^(-|[+-]?\d\.\d{4} \[[+-]?\d\.\d{4}, [+-]?\d\.\d{4}\])$/);
  await followed(page, /^comparison\.html$/, '/runs/arms/files/comparison.html');
  expect(await page.textContent('h1')).not.toBe('');
});

it.each(LOOKS)('has nothing serious for axe and fits, %s, %d pixels', (...look) =>
  expectSoundPages(
    browser,
    {
      sweeps: `${url}/sweeps`,
      sweep: `${url}/sweeps/tiny`,
      comparison: `${url}/sweeps/arms`,
    },
    look,
  ),
);
