/**
 * The pages of a run that was evaluated, of its adgroups, and of a server that ranks from its bundle: by keyboard alone, in
 * light and dark, and as narrow as a phone.
 */

import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { commandRoom } from '../fixtures/commands/command-room.js';
import type { RunningCommand } from '../fixtures/commands/command.js';
import { LOOKS, openedPage, overhangOf, picture, screenName } from './browser-room.js';
import { openChromium, seriousFindings, tabTo } from './chromium.js';
import { openedOnce } from '../fixtures/opened.js';

interface Served {
  readonly impressions: number;
}

const POLICY = '{"exploration":{"mode":"active","policy":"thompson","slots":[2]}}';
const PAGES = [
  ...['/', '/runs', '/sweeps', '/runs/shop', '/runs/shop/adgroup'],
  ...['/runs/shop/adgroup?name=g1', '/runs/shop/adgroup?name=nobody', '/serving'],
];

const room = openedOnce(commandRoom);
const browser = openedOnce(openChromium);
let url: string;
let ranking: string;
/** A test adgroup of the run. */
let judged: string;
const services: RunningCommand[] = [];

beforeAll(async () => {
  await room.write('policy.json', POLICY);
  const config = await room.config('shop', (run) => {
    run['method'] = { kind: 'fomaml', innerSteps: 2, innerRate: 0.3 };
    run.training['outerSteps'] = 12;
  });
  for (const verb of ['prepare', 'train', 'evaluate', 'export']) await room.done([verb, config]);
  const server = started([
    ...['serve', '--bundle', 'shop/bundles', '--port', '0', '--metrics-port', '0'],
    ...['--explore', 'policy.json', '--state', 'shop/state', '--format', 'json'],
  ]);
  const [, metrics = ''] = await server.saw(/metrics: (http:\S+\/metrics)/);
  [, ranking = ''] = await server.printed(/"url":"([^"]+)"/);
  const dashboard = started([
    ...['dashboard', '--runs', '.', '--servers', metrics, '--rankings', ranking],
    ...['--port', '0', '--format', 'json'],
  ]);
  [, url = ''] = await dashboard.printed(/"url":"(.*)\/"/);
  const page = await (await fetch(`${url}/runs/shop/adgroup`)).text();
  [, judged = ''] = /adgroup\?name=(\w+)"/.exec(page) ?? [];
});
afterAll(async () => {
  for (const service of services) {
    service.signal('SIGTERM');
    await service.ended;
  }
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

/** Five that the bundle has, and one that it does not have. */
function candidates(): string[] {
  const others = ['g0', 'g1', 'g2', 'g3', 'g4'].filter((name) => name !== judged).slice(0, 4);
  return [judged, ...others, 'nobody'];
}

/** A ranking of six adgroups, of which the first one that is shown is clicked. */
async function rankAndClick(): Promise<void> {
  const answer = await posted('/v1/rank', {
    context: { site: 's1', user: 'u1', age: 30 },
    candidates: candidates().map((adgroup) => ({ adgroup, bid: adgroup === judged ? 9 : 1 })),
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
    await page.waitForSelector('#server-0 th:text-is("/v1/rank")');
    await page.waitForSelector('#server-0 th:text-is("/v1/feedback")');
    await page.waitForSelector(
      '#server-0 div:has(span:text-is("of candidates unknown")) b:text-is("16.7 %")',
    );
    expect(await page.textContent('#server-0')).toContain('stable');
    await page.waitForSelector('[aria-label="Calibration"] tbody td:text-is("60")');
    const counted = page.locator('[aria-label="Calibration"] tbody td');
    const [segment, , predicted, observed, ratio] = await counted.allTextContents();
    expect([segment, observed]).toEqual(['all', '20']);
    expect(Number(ratio)).toBeCloseTo(20 / Number(predicted), 0);
    await picture(page, 'dashboard-serving', 760);
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
    await page.waitForSelector('#trouble-0:has-text("cannot be read")', { timeout: 10_000 });
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
  expect(await page.isVisible('#served th:text-matches("^http://127")')).toBe(true);
});

it.each(LOOKS)(
  'has nothing serious for axe and fits, %s, %d pixels',
  async (colorScheme, width) => {
    const page = await openedPage(browser, url, { colorScheme, width });
    for (const path of [...PAGES, `/runs/shop/adgroup?name=${judged}`]) {
      await page.goto(`${url}${path}`);
      expect(await seriousFindings(page), path).toEqual([]);
      expect(await overhangOf(page), path).toBe(0);
      const name = path
        .replace(judged, 'judged')
        .replaceAll(/[^a-z]+/g, '-')
        .replace(/-$/, '');
      await picture(page, `served${name}${screenName(colorScheme, width)}`, 1_600);
    }
  },
);

it('shows what servers have shown of an adgroup, and its share of exploration', async () => {
  const page = await openedPage(browser, `${url}/runs/shop/adgroup?name=${judged}`);
  const before = Number(await page.textContent('#served td'));
  for (let count = 0; count < 5; count += 1) await rankAndClick();
  // All places that were shown are some adgroup's.
  const counts = await Promise.all(
    candidates().map(async (adgroup) => {
      const answer = await fetch(`${ranking}/v1/exploration/${adgroup}`);
      return (await answer.json()) as { served: Served; all: Served };
    }),
  );
  const total = counts.reduce((sum, { served }) => sum + served.impressions, 0);
  expect(total).toBe(counts[0]?.all.impressions);
  expect(total % 3).toBe(0);
  const own = String(counts[0]?.served.impressions);
  expect(Number(own)).toBeGreaterThan(before);
  // The page is live: it asks again while it is open.
  await page.waitForSelector(`#served td:first-of-type:text-is("${own}")`, { timeout: 30_000 });
  const [, share, explored, propensity] = await page.locator('#served td').allTextContents();
  for (const text of [share, explored]) expect(text).toMatch(/^\d+(\.\d+)? %$/);
  expect(propensity).toMatch(/^[01]\.\d{3}$/);
});

it('shows adgroups without script', async () => {
  const page = await openedPage(browser, `${url}/runs/shop/adgroup?name=g1`, { hasScript: false });
  expect(await page.isVisible('#search input')).toBe(true);
});
