/** A room with a browser: pages in light and dark, at any width, and pictures of them for the documentation. */

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { commandRoom, type CommandRoom } from '../fixtures/commands/command-room.js';
import { expect, onTestFinished } from 'vitest';
import { openChromium, seriousFindings } from './chromium.js';

/** Readers of the documentation do not want to know where the test has run. */
const WITHOUT_TEMPORARY_FOLDER = `
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode() !== null)
    texts.currentNode.data = texts.currentNode.data.replace(/\\/\\S*qianmo-test-[^/\\s]+/, '/srv/runs');
`;

interface Screen {
  readonly colorScheme?: 'light' | 'dark';
  readonly width?: number;
  readonly hasScript?: boolean;
}

/** @param makeRuns leaves what the dashboard shows in the room */
export async function dashboardRoom(makeRuns: (room: CommandRoom) => Promise<void>) {
  const browser = await openChromium();
  const room = await commandRoom();
  await makeRuns(room);
  const service = room.start(['dashboard', '--runs', '.', '--port', '0', '--format', 'json']);
  const [, url = ''] = await service.printed(/"url":"(.*)\/"/);
  return {
    ...{ room, browser, url },
    close: async () => {
      await browser.close();
      service.signal('SIGTERM');
      await service.ended;
      await room.remove();
    },
  };
}

export const PHONE_WIDTH = 390;
const DESK_WIDTH = 1_180;
const HEIGHT = 820;

/** The folder that pictures are written to; none are if the variable is not set. */
const PICTURES = process.env['QIANMO_TEST_PICTURES'] ?? '';

/** A page that closes when the test ends. */
export async function openedPage(
  browser: Browser,
  url: string,
  { colorScheme = 'light', width = DESK_WIDTH, hasScript = true }: Screen = {},
): Promise<Page> {
  const viewport = { width, height: HEIGHT };
  const context = await browser.newContext({ colorScheme, viewport, javaScriptEnabled: hasScript });
  onTestFinished(() => context.close());
  const page = await context.newPage();
  page.on('pageerror', (error) => {
    throw error;
  });
  await page.goto(url);
  return page;
}

/** Pixels by which a page is wider than its window; its own regions may scroll, it may not. */
export async function overhangOf(page: Page): Promise<number> {
  return Number(
    await page.evaluate(
      'document.documentElement.scrollWidth - document.documentElement.clientWidth',
    ),
  );
}

/** The colours and widths in which every page is looked at. */
export const LOOKS = [
  ['light', DESK_WIDTH],
  ['dark', DESK_WIDTH],
  ['light', PHONE_WIDTH],
  ['dark', PHONE_WIDTH],
] as const;

/** The end of a picture's name. */
export function screenName(colorScheme: 'light' | 'dark', width: number): string {
  return `${colorScheme === 'dark' ? '-dark' : ''}${width === PHONE_WIDTH ? '-phone' : ''}`;
}

/** Writes `NAME.png` where pictures are asked for. @param height pixels from the top; the window if absent */
export async function picture(page: Page, name: string, height = HEIGHT): Promise<void> {
  if (PICTURES === '') return;
  await mkdir(PICTURES, { recursive: true });
  await page.evaluate(WITHOUT_TEMPORARY_FOLDER);
  const width = page.viewportSize()?.width ?? DESK_WIDTH;
  await page.screenshot({
    path: join(PICTURES, `${name}.png`),
    fullPage: true,
    clip: { x: 0, y: 0, width, height },
  });
}

/** Each page, by the name of its picture, has nothing serious for axe, is no wider than its window, and is pictured. */
export async function expectSoundPages(
  browser: Browser,
  addresses: Readonly<Record<string, string>>,
  [colorScheme, width]: (typeof LOOKS)[number],
): Promise<void> {
  const page = await openedPage(browser, 'about:blank', { colorScheme, width });
  for (const [name, address] of Object.entries(addresses)) {
    await page.goto(address);
    expect(await seriousFindings(page), name).toEqual([]);
    expect(await overhangOf(page), name).toBe(0);
    await picture(page, `${name}${screenName(colorScheme, width)}`, 1_600);
  }
}
