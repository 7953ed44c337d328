/** The browser of this machine, and what it finds wrong with a page for people who do not see it. */

import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { chromium, type Browser, type Page } from 'playwright-core';

const PATHS = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

export async function openChromium(): Promise<Browser> {
  const path = PATHS.find((each) => existsSync(each));
  if (path === undefined)
    throw new Error(
      `Chromium is not installed: none of ${PATHS.join(', ')} is there. On Debian: apt-get install chromium`,
    );
  // Chromium refuses its sandbox to the root user of a container.
  return chromium.launch({ executablePath: path, args: ['--no-sandbox'] });
}

interface Violation {
  readonly id: string;
  readonly impact: string | null;
  readonly nodes: readonly { readonly html: string }[];
}

/** The findings of axe that it calls serious or critical, each with the elements that it names. */
export async function seriousFindings(page: Page): Promise<string[]> {
  const axe = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
  // The page allows no other script, so it is evaluated and not inserted.
  await page.evaluate(await readFile(axe, 'utf8'));
  const violations = await page.evaluate<readonly Violation[]>(
    'axe.run(document).then(({ violations }) => violations)',
  );
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(' | ')}`);
}

/** Presses Tab until the element in focus has this name, as a reader without a mouse does. */
export async function tabTo(page: Page, name: RegExp): Promise<void> {
  for (let pressed = 0; pressed < 200; pressed += 1) {
    await page.keyboard.press('Tab');
    const text = String(
      await page.evaluate(
        "(({ labels, textContent, ariaLabel }) => ariaLabel ?? labels?.[0]?.textContent ?? textContent ?? '')(document.activeElement ?? {})",
      ),
    );
    if (name.test(text)) return;
  }
  throw new Error(`no element that Tab reaches is named ${String(name)}`);
}
