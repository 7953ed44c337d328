/** The dashboard in a browser, over a real run with two workers: live, controlled, refused, and by keyboard alone. */

import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { thisProcess } from '../../shared/storage/process-identity.js';
import { commandRoom } from '../fixtures/commands/command-room.js';
import type { RunningCommand } from '../fixtures/commands/command.js';
import { openedOnce } from '../fixtures/opened.js';
import { redisForTest } from '../fixtures/queue/redis-for-test.js';
import { writeRecord } from '../fixtures/written-record.js';
import { openedPage, overhangOf, PHONE_WIDTH, picture, screenName } from './browser-room.js';
import { openChromium, seriousFindings, tabTo } from './chromium.js';

const room = openedOnce(commandRoom);
const redis = openedOnce(redisForTest);
const browser = openedOnce(openChromium);
let training: RunningCommand;
let controlled: { readonly url: string; readonly service: RunningCommand };
let readOnly: typeof controlled;

beforeAll(async () => {
  const run = await room.config('run', ({ training }) =>
    Object.assign(training, { outerSteps: 1_000_000, checkpointEveryOuterSteps: 1_000 }),
  );
  await room.done(['prepare', run]);
  await writeRecord(room.path('failed'), {
    run: 'failed',
    outerSteps: 40,
    ended: 3,
    failure: 'why',
  });
  await writeRecord(room.path('stalled'), {
    ...{ run: 'stalled', outerSteps: 40, ended: 3, isOpen: true, process: thisProcess() },
  });
  training = room.start(['train', run, '--workers', '2', '--redis', redis.url]);
  await training.saw(/step \d+\//);
  controlled = await dashboard(['--allow-control']);
  readOnly = await dashboard([]);
});
afterAll(async () => {
  for (const service of [training, controlled.service, readOnly.service]) {
    service.signal('SIGTERM');
    await service.ended;
  }
});

async function dashboard(options: readonly string[]): Promise<typeof controlled> {
  const queue = ['--redis', redis.url, '--prefix', '{run}'];
  const place = ['--runs', '.', '--port', '0', '--format', 'json'];
  const service = room.start(['dashboard', ...place, ...queue, ...options]);
  const [, url = ''] = await service.printed(/"url":"(.*)\/"/);
  return { url, service };
}

const opened = (url: string, colorScheme: 'light' | 'dark' = 'light'): Promise<Page> =>
  openedPage(browser, url, { colorScheme });

const stateOf = (page: Page, state: string) =>
  page.waitForSelector(`#state .state:text-is("${state}")`, { timeout: 30_000 });

describe('a run under way', () => {
  it('changes on its page without a reload', async () => {
    const page = await opened(`${readOnly.url}/runs/run`);
    await page.waitForSelector('#connection:text-is("live")');
    const before = await page.textContent('#facts b');
    await page.waitForSelector(`#facts div:first-child b:not(:text-is("${before}"))`);
    await page.waitForSelector('#time figure svg');
  });

  it('keeps focus and opened tables while it changes', async () => {
    const page = await opened(`${readOnly.url}/runs/run`);
    await tabTo(page, /^Table$/);
    await page.keyboard.press('Enter');
    const digest = await page.getAttribute('#course', 'data-digest');
    await page.waitForSelector(`#course:not([data-digest="${digest}"])`);
    expect(await page.evaluate('document.activeElement.textContent')).toBe('Table');
    expect(await page.isVisible('#course details[open] table')).toBe(true);
  });

  it('shows a worker that was killed within ten seconds, on both pages', async () => {
    const run = await opened(`${readOnly.url}/runs/run`);
    const cluster = await opened(readOnly.url);
    await run.waitForSelector('#workers tbody tr:nth-child(2)');
    await cluster.waitForSelector('#workers tbody tr:nth-child(2)');
    const name = (await run.textContent('#workers tbody th')) ?? '';
    // Two workers of one process have names that end in -1 and -2.
    process.kill(Number(/-(\d+)(?:-[12])?$/.exec(name)?.[1]), 'SIGKILL');
    const row = `#workers tr:has(th:text-is("${name}"))`;
    await Promise.all([
      run.waitForSelector(`${row} .state:text-is("exited, SIGKILL")`, { timeout: 10_000 }),
      cluster.waitForSelector(row, { state: 'detached', timeout: 10_000 }),
    ]);
  });
});

it('shows runs that failed and that stall, with the reason', async () => {
  const page = await opened(`${readOnly.url}/runs/failed`);
  await stateOf(page, 'failed');
  expect(await page.textContent('.reason')).toBe('data: why');
  await page.goto(`${readOnly.url}/runs/stalled`);
  await stateOf(page, 'stalled');
});

it.each([
  ['light', 1_180],
  ['dark', 1_180],
  ['light', PHONE_WIDTH],
] as const)('has nothing serious for axe and fits, %s, %d pixels', async (colorScheme, width) => {
  const page = await openedPage(browser, controlled.url, { colorScheme, width });
  for (const [name, path] of [
    ['cluster', '/'],
    ['runs', '/runs'],
    ['run', '/runs/run'],
    ['failed', '/runs/failed'],
    ['absent', '/none'],
  ] as const) {
    await page.goto(`${controlled.url}${path}`);
    expect(await seriousFindings(page), path).toEqual([]);
    expect(await overhangOf(page), path).toBe(0);
    await picture(page, `dashboard-${name}${screenName(colorScheme, width)}`, 920);
  }
});

it('leads by keyboard alone from the first page to a run, past the navigation', async () => {
  const page = await opened(readOnly.url);
  await page.keyboard.press('Tab');
  expect(await page.evaluate('document.activeElement.textContent')).toBe('Skip to the content');
  await page.keyboard.press('Enter');
  expect(await page.evaluate('document.activeElement.id')).toBe('main');
  await tabTo(page, /^All \d+ runs$/);
  await page.keyboard.press('Enter');
  await page.waitForURL(`${readOnly.url}/runs`);
  await tabTo(page, /^failed$/);
  await page.keyboard.press('Enter');
  await page.waitForURL(`${readOnly.url}/runs/failed`);
});

it('is readable without script', async () => {
  const page = await openedPage(browser, `${readOnly.url}/runs/run`, { hasScript: false });
  expect(await page.isVisible('#course svg')).toBe(true);
});

it('a form of another page is refused, even with the token', async () => {
  const page = await opened(`${controlled.url}/runs/run`);
  const csrf = (await page.inputValue('input[name=csrf]')) || '';
  // A page without an address has the origin `null`.
  const other = await page.context().newPage();
  await other.setContent(
    `<form method="post" action="${controlled.url}/cancel"><input name="csrf" value="${csrf}">` +
      '<input name="run" value="run"><button>Go</button></form>',
  );
  const answered = other.waitForResponse(/cancel/);
  await other.click('button');
  expect((await answered).status()).toBe(403);
});

it('cancels a run by keyboard, when control is allowed', async () => {
  const page = await opened(`${controlled.url}/runs/run`);
  await tabTo(page, /^Cancel run run$/);
  await page.keyboard.press('Enter');
  await stateOf(page, 'interrupted');
  expect((await training.ended).exitCode).toBe(5);
});
