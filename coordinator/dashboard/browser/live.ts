/**
 * The script of the pages: it puts parts that have changed in place, and keeps what the reader does meanwhile (focus,
 * opened details, scrolled regions). While the tab is hidden it keeps no connection, of which a browser has few.
 */

import type { Browser, ChangeStream, PageElement } from './page-types.js';

interface ChangedPage {
  readonly title: string;
  readonly parts: readonly {
    readonly id: string;
    readonly digest: string;
    readonly html: string;
  }[];
}

/** After the server has refused a stream, which the browser does not try again by itself. */
const RETRY_MS = 5_000;
const CLOSED = 2;

// The script runs in a browser alone, whose globals the server's types do not have.
const browser = globalThis as unknown as Browser;
const { document: page } = browser;
const main = page.getElementById('main');
const connection = page.getElementById('connection');
const livePath = main?.dataset['live'];

let stream: ChangeStream | null = null;
let retry: number | null = null;

if (livePath !== undefined) {
  page.addEventListener('visibilitychange', () => (page.hidden ? disconnect() : connect(livePath)));
  browser.addEventListener('pagehide', disconnect);
  if (!page.hidden) connect(livePath);
}

function connect(path: string): void {
  disconnect();
  const separator = path.includes('?') ? '&' : '?';
  const opened = new browser.EventSource(`${path}${separator}has=${encodeURIComponent(digests())}`);
  stream = opened;
  opened.onopen = () => say('live', '');
  opened.onerror = () => {
    say('not connected; the page may be old', 'lost');
    if (opened.readyState === CLOSED) retry = browser.setTimeout(() => connect(path), RETRY_MS);
  };
  opened.addEventListener('parts', ({ data }) => {
    // The server of this page writes it.
    const changed = JSON.parse(data) as ChangedPage;
    page.title = `${changed.title} · qianmo`;
    for (const part of changed.parts) replace(part);
  });
}

function disconnect(): void {
  if (retry !== null) browser.clearTimeout(retry);
  retry = null;
  stream?.close();
  stream = null;
}

/** The parts of the page as it is, so that the server sends only others. */
function digests(): string {
  return [...page.querySelectorAll('.part')]
    .map(({ id, dataset }) => `${id}.${dataset['digest'] ?? ''}`)
    .join(',');
}

function replace({ id, digest, html }: ChangedPage['parts'][number]): void {
  const part = page.getElementById(id);
  if (part === null) return;
  const restore = remembered(part);
  part.innerHTML = html;
  part.dataset['digest'] = digest;
  restore();
}

/** The reader's doings in a part. Elements are known again by their place. */
function remembered(part: PageElement): () => void {
  const focusable = 'a, button, input, select, summary, [tabindex]';
  const active = page.activeElement;
  const focused = part.contains(active)
    ? [...part.querySelectorAll(focusable)].findIndex((each) => each === active)
    : -1;
  const opened = [...part.querySelectorAll('details')].map(({ open }) => open);
  const scrolled = [...part.querySelectorAll('.scroll, .drawing')].map(
    ({ scrollTop, scrollLeft }) => ({ scrollTop, scrollLeft }),
  );
  return () => {
    for (const [index, details] of [...part.querySelectorAll('details')].entries())
      details.open = opened[index] ?? false;
    for (const [index, region] of [...part.querySelectorAll('.scroll, .drawing')].entries()) {
      region.scrollTop = scrolled[index]?.scrollTop ?? 0;
      region.scrollLeft = scrolled[index]?.scrollLeft ?? 0;
    }
    if (focused >= 0)
      [...part.querySelectorAll(focusable)][focused]?.focus({ preventScroll: true });
  };
}

function say(text: string, className: string): void {
  if (connection === null || connection.textContent === text) return;
  connection.textContent = text;
  connection.className = className;
}
