/**
 * The pages of a run that was evaluated, of its adgroups, and of a server that ranks from its bundle: by keyboard alone, in
 * light and dark, and as narrow as a phone.
 */

import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { commandRoom, type CommandRoom } from '../fixtures/commands/command-room.js';
import type { RunningCommand } from '../fixtures/commands/command.js';
import { openedPage, overhangOf, PHONE_WIDTH, picture, screenName } from './browser-room.js';
import { openChromium, seriousFindings, tabTo } from './chromium.js';

const POLICY = '{"exploration":{"mode":"active","policy":"thompson","slots":[2]}}';
const PAGES = [
  ...['/', '/runs', '/sweeps', '/runs/shop', '/runs/shop?with=other', '/runs/shop/adgroup'],
  ...['/runs/shop/adgroup?name=g1', '/runs/shop/adgroup?name=nobody', '/serving'],
];

let room: CommandRoom;
let browser: Browser;
let url: string;
let ranking: string;
const services: RunningCommand[] = [];

beforeAll(async () => {
  browser = await openChromium();
  room = await commandRoom();
  await room.write('policy.json', POLICY);
  for (const [name, rate] of [
    ['shop', 0.3],
    ['other', 0.1],
  ] as const) {
    const config = await room.config(name, (run) => {
      run['method'] = { kind: 'fomaml', innerSteps: 2, innerRate: rate };
      run.training['outerSteps'] = 12;
    });
    await room.done([name === 'shop' ? 'prepare' : 'check', config]);
    await room.done(['train', config, '--in-process']);
  }
  await room.done(['evaluate', 'shop.yaml', '--in-process']);
  await room.done(['export', 'shop.yaml', '--in-process']);
  const server = started([
    ...['serve', '--bundle', 'shop/bundles', '--port', '0', '--metrics-port', '0'],
    ...['--explore', 'policy.json', '--state', 'shop/state', '--format', 'json'],
  ]);
  const [, metrics = ''] = await server.saw(/metrics: (http:\S+\/metrics)/);
  [, ranking = ''] = await server.printed(/"url":"([^"]+)"/);
  const dashboard = started([
    ...['dashboard', '--runs', '.', '--servers', metrics, '--port', '0', '--format', 'json'],
  ]);
  [, url = ''] = await dashboard.printed(/"url":"(.*)\/"/);
});
afterAll(async () => {
  await browser.close();
  for (const service of services) {
    service.signal('SIGTERM');
    await service.ended;
  }
  await room.remove();
});

function started(words: readonly string[]): RunningCommand {
  const service = room.start(words);
  services.push(service);
  return service;
}

async function posted(path: string, body: unknown): Promise<unknown> {
  const headers = { 'content-type': 'application/json' };
  const answer = await fetch(ranking + path, {
    method: 'POST',
    headers,
    body: JSON.stringify(body),
  });
  expect(answer.status, path).toBe(200);
  return answer.json();
}

/** A ranking of six adgroups, of which the first one that is shown is clicked. */
async function rankAndClick(): Promise<void> {
  const answer = await posted('/v1/rank', {
    context: { site: 's1', user: 'u1', age: 30 },
    candidates: ['g0', 'g1', 'g2', 'g3', 'g4', 'nobody'].map((adgroup) => ({ adgroup })),
    slots: 3,
  });
  const { exploration } = answer as { exploration: { events: string[] } };
  const shown = exploration.events.map((event) => ({ kind: 'impression', event }));
  const clicked = exploration.events.slice(0, 1).map((event) => ({ kind: 'outcome', event }));
  await posted('/v1/feedback', { events: [...shown, ...clicked] });
}

const connected = (page: Page) => page.waitForSelector('#connection:text-is("live")');

describe('ranking servers', () => {
  it('show requests that come while the page is open', async () => {
    const page = await openedPage(browser, `${url}/serving`);
    await connected(page);
    for (let count = 0; count < 20; count += 1) await rankAndClick();
    await page.waitForSelector('#routes-0 th:text-is("/v1/rank")');
    await page.waitForSelector('#routes-0 th:text-is("/v1/feedback")');
    await page.waitForSelector(
      '#server-0 div:has(span:text-is("of candidates unknown")) b:text-is("16.7 %")',
    );
    expect(await page.textContent('#server-0')).toContain('stable');
    await picture(page, 'dashboard-serving', 640);
    await page.context().close();
  });

  it('say so when the server has gone', async () => {
    const other = started([
      ...[
        'serve',
        '--bundle',
        'shop/bundles',
        '--port',
        '0',
        '--metrics-port',
        '0',
        '--format',
        'json',
      ],
    ]);
    const [, metrics = ''] = await other.saw(/metrics: (http:\S+\/metrics)/);
    await other.printed(/"url"/);
    const board = started(['dashboard', '--servers', metrics, '--port', '0', '--format', 'json']);
    const [, address = ''] = await board.printed(/"url":"(.*)\/"/);
    const page = await openedPage(browser, `${address}/serving`);
    await connected(page);
    other.signal('SIGKILL');
    await page.waitForSelector('#trouble-0:has-text("It cannot be read")', { timeout: 10_000 });
    await page.context().close();
  });
});

it('leads by keyboard from a run to one of its adgroups', async () => {
  const page = await openedPage(browser, `${url}/runs/shop`);
  await tabTo(page, /^single adgroups$/);
  await page.keyboard.press('Enter');
  await page.waitForURL(`${url}/runs/shop/adgroup`);
  const [first = ''] = await page.locator('#adgroup tbody th').allTextContents();
  await picture(page, 'dashboard-adgroups', 620);
  await tabTo(page, /^One of \d+ test adgroups/);
  await page.keyboard.type(first);
  await page.keyboard.press('Enter');
  await page.waitForURL(`${url}/runs/shop/adgroup?name=${first}`);
  expect(await page.textContent('h1')).toBe(`Adgroup ${first}`);
  expect(await page.textContent('#adgroup')).toMatch(/0\.\d{4}query logloss\s*after adaptation/);
  expect(await page.isVisible('#adgroup th:text-is("meta-adapted")')).toBe(true);
  await page.context().close();
});

it.each([
  ['light', 1_180],
  ['dark', 1_180],
  ['light', PHONE_WIDTH],
  ['dark', PHONE_WIDTH],
] as const)('has nothing serious for axe and fits, %s, %d pixels', async (colorScheme, width) => {
  const page = await openedPage(browser, url, { colorScheme, width });
  for (const path of PAGES) {
    await page.goto(`${url}${path}`);
    expect(await seriousFindings(page), path).toEqual([]);
    expect(await overhangOf(page), path).toBe(0);
    const name = path.replaceAll(/[^a-z]+/g, '-').replace(/-$/, '');
    await picture(page, `served${name}${screenName(colorScheme, width)}`, 1_600);
  }
  await page.context().close();
});

it('shows adgroups without script', async () => {
  const page = await openedPage(browser, `${url}/runs/shop/adgroup?name=g1`, { hasScript: false });
  expect(await page.isVisible('#search input')).toBe(true);
  await page.context().close();
});
