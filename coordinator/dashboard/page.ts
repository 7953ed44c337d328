/** A page as a value: blocks by the ids of its parts. */

import { createHash } from 'node:crypto';
import { blocksHtml, escapeHtml, htmlDocument } from '../reports/document/as-page.js';
import { textBlock, type Block, type Text } from '../reports/document/document.js';

export interface Page {
  readonly title: string;
  /** The title if absent. */
  readonly heading?: string;
  /** The place that the page belongs to, above its heading. */
  readonly crumbs?: Text;
  /** The place in the navigation; null for none. */
  readonly place: NavigationPath | null;
  /** By id, in their order. A part without blocks has nothing to show at present. */
  readonly parts: Readonly<Record<string, readonly Block[]>>;
  /** The parts that a screen reader reads out when they change. */
  readonly announced?: readonly string[];
  /** The page is made again once it is older; a second if absent. */
  readonly keptForMs?: number;
}

export type NavigationPath = '/' | '/runs' | '/sweeps' | '/serving' | '/queues';

const PLACES: readonly (readonly [NavigationPath, string])[] = [
  ['/', 'Cluster'],
  ['/runs', 'Runs'],
  ['/sweeps', 'Sweeps'],
  ['/serving', 'Serving'],
  ['/queues', 'Queue board'],
];

export const STYLE_PATH = '/assets/style.css';
export const SCRIPT_PATH = '/assets/live.js';

/** Three bars in the page itself, so that a browser asks for no other icon. */
const ICON =
  '<link rel="icon" href="data:image/svg+xml,%3Csvg xmlns=%22http://www.w3.org/2000/svg%22 viewBox=%220 0 16 16%22%3E' +
  '%3Cpath fill=%22%235a3fd0%22 d=%22M1 9h4v6H1zM6 5h4v10H6zM11 1h4v14h-4z%22/%3E%3C/svg%3E">';

/** @param isLive whether the browser asks for the page again. @param places that this server has */
export function servedPage(
  page: Page,
  isLive: boolean,
  places: ReadonlySet<NavigationPath>,
): string {
  const links = PLACES.filter(([path]) => places.has(path)).map(([path, name]) => {
    const current = path === page.place ? ' aria-current="page"' : '';
    return `<a href="${path}"${current}>${name}</a>`;
  });
  const script = `<script type="module" src="${SCRIPT_PATH}"></script>`;
  return htmlDocument(
    page.title,
    `${ICON}\n<link rel="stylesheet" href="${STYLE_PATH}">${isLive ? `\n${script}` : ''}`,
    '<a class="skip" href="#main">Skip to the content</a>\n' +
      `<header class="top"><a class="name" href="/">qianmo</a><nav aria-label="Dashboard">${links.join('')}</nav>` +
      '<span id="connection" role="status"></span></header>\n' +
      `<main id="main" tabindex="-1">\n${partsHtml(page)}\n</main>`,
  );
}

export function partsHtml({ title, heading = title, crumbs, parts, announced = [] }: Page): string {
  const above = crumbs === undefined ? '' : blocksHtml([textBlock(crumbs, 'crumbs')]);
  const { head = [], ...others } = parts;
  const htmls = [
    ['head', `${above}<h1>${escapeHtml(heading)}</h1>${blocksHtml(head)}`],
    ...Object.entries(others).map(([id, blocks]) => [id, blocksHtml(blocks)] as const),
  ] as const;
  return htmls
    .map(([id, html]) => {
      const live = announced.includes(id) ? ' role="status" aria-live="polite"' : '';
      return `<div class="part" id="${id}" data-digest="${digestOf(html)}"${live}>${html}</div>`;
    })
    .join('\n');
}

/** Tells versions of a text apart. */
export function digestOf(html: string): string {
  return createHash('sha256').update(html).digest('hex').slice(0, 12);
}

export function runPath(key: string): string {
  return `/runs/${encodeURIComponent(key).replaceAll('%3A', ':')}`;
}

/**
 * The script of the pages: it asks for the page again while somebody sees it, puts parts that have changed in place, and
 * keeps what the reader does meanwhile (focus, opened details, scrolled regions).
 */
export const LIVE_SCRIPT = `const INTERVAL_MS = 2000;
const FOCUSABLE = 'a, button, input, select, summary, [tabindex]';
const REGIONS = '.scroll, .drawing';
const connection = document.getElementById('connection');
let etag = '';

async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch(location.href, { headers: { 'If-None-Match': etag } });
    if (answer.status !== 304) {
      if (!answer.ok) throw new Error(answer.status);
      const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
      etag = answer.headers.get('etag') ?? '';
      document.title = fresh.title;
      for (const part of fresh.querySelectorAll('.part')) replace(part);
    }
    say('live', '');
  } catch {
    say('not connected; the page may be old', 'lost');
  }
}

function replace(fresh) {
  const part = document.getElementById(fresh.id);
  if (part === null || part.dataset.digest === fresh.dataset.digest) return;
  const all = (selector) => [...part.querySelectorAll(selector)];
  const focused = all(FOCUSABLE).indexOf(document.activeElement);
  const opened = all('details').map(({ open }) => open);
  const scrolled = all(REGIONS).map(({ scrollTop, scrollLeft }) => [scrollLeft, scrollTop]);
  part.replaceChildren(...fresh.childNodes);
  part.dataset.digest = fresh.dataset.digest;
  all('details').forEach((details, index) => (details.open = opened[index] ?? false));
  all(REGIONS).forEach((region, index) => region.scrollTo(...(scrolled[index] ?? [0, 0])));
  if (focused >= 0) all(FOCUSABLE)[focused]?.focus({ preventScroll: true });
}

function say(text, className) {
  if (connection.textContent === text) return;
  connection.textContent = text;
  connection.className = className;
}

document.addEventListener('visibilitychange', refresh);
setInterval(refresh, INTERVAL_MS);
refresh();
`;
