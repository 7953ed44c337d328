/**
 * A page as a value: parts that each have an id. The server sends it whole, the stream of changes sends the parts that
 * differ, and a finished run is written as a file.
 */

import { createHash } from 'node:crypto';
import { escapeHtml } from '../../reports/html-text.js';
import { REPORT_STYLE } from '../../reports/page/page-style.js';
import { DASHBOARD_STYLE } from './dashboard-style.js';

export interface Page {
  readonly title: string;
  /** The place in the navigation that the page belongs to; null for none. */
  readonly place: NavigationPath | null;
  readonly parts: readonly PagePart[];
}

export interface PagePart {
  readonly id: string;
  /** Empty if there is nothing to say at present. */
  readonly html: string;
  /** True for what a screen reader says when it changes. */
  readonly isAnnounced?: boolean;
}

export type NavigationPath = '/' | '/runs' | '/sweeps' | '/serving' | '/queues';

const PLACES: readonly (readonly [NavigationPath, string])[] = [
  ['/', 'Cluster'],
  ['/runs', 'Runs'],
  ['/sweeps', 'Sweeps'],
  ['/serving', 'Serving'],
  ['/queues', 'Queue board'],
];

export const STYLE = REPORT_STYLE + DASHBOARD_STYLE;
export const STYLE_PATH = '/assets/style.css';
export const SCRIPT_PATH = '/assets/live.js';

/** Three bars in the page itself, so that a browser asks for no other icon. */
const ICON =
  '<link rel="icon" href="data:image/svg+xml,%3Csvg xmlns=%22http://www.w3.org/2000/svg%22 viewBox=%220 0 16 16%22%3E' +
  '%3Cpath fill=%22%235a3fd0%22 d=%22M1 9h4v6H1zM6 5h4v10H6zM11 1h4v14h-4z%22/%3E%3C/svg%3E">';

interface ServedFrame {
  /** The path and query of the page's stream of changes; null for a page that does not change. */
  readonly livePath: string | null;
  /** The places that this server has. */
  readonly places: ReadonlySet<NavigationPath>;
}

export function servedPage(page: Page, { livePath, places }: ServedFrame): string {
  const live = livePath === null ? '' : ` data-live="${escapeHtml(livePath)}"`;
  const links = PLACES.filter(([path]) => places.has(path)).map(([path, name]) => {
    const current = path === page.place ? ' aria-current="page"' : '';
    return `<a href="${path}"${current}>${name}</a>`;
  });
  return document(
    page.title,
    `<link rel="stylesheet" href="${STYLE_PATH}">\n<script type="module" src="${SCRIPT_PATH}"></script>`,
    '<a class="skip" href="#main">Skip to the content</a>\n' +
      `<header class="top"><a class="name" href="/">qianmo</a><nav aria-label="Dashboard">${links.join('')}</nav>` +
      '<span id="connection" role="status"></span></header>\n' +
      `<main id="main" tabindex="-1"${live}>\n${partsHtml(page)}\n</main>`,
  );
}

/** One file with everything inside, for people without the server. */
export function filedPage(page: Page): string {
  return document(
    page.title,
    `<style>${STYLE}</style>`,
    `<main id="main">\n${partsHtml(page)}\n</main>`,
  );
}

function document(title: string, head: string, body: string): string {
  return (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n' +
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n' +
    `<title>${escapeHtml(title)} · qianmo</title>\n${ICON}\n${head}\n</head>\n<body class="dashboard">\n${body}\n</body>\n</html>\n`
  );
}

function partsHtml({ parts }: Page): string {
  return parts
    .map(({ id, html, isAnnounced = false }) => {
      const live = isAnnounced ? ' role="status" aria-live="polite"' : '';
      return `<div class="part" id="${id}" data-digest="${digestOf(html)}"${live}>${html}</div>`;
    })
    .join('\n');
}

/** Tells versions of a part apart; nobody gains anything from two that collide. */
export function digestOf(html: string): string {
  return createHash('sha256').update(html).digest('hex').slice(0, 12);
}
