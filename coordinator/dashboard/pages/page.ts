/**
 * A page as a value: parts that each have an id. The server sends it whole, the stream of changes sends the parts that
 * differ, and a finished run is written as a file.
 */

import { createHash } from 'node:crypto';
import { blocksHtml, escapeHtml, htmlDocument } from '../../reports/document/as-page.js';
import { textBlock, type Block, type Text } from '../../reports/document/document.js';

export interface Page {
  readonly title: string;
  /** The place in the navigation that the page belongs to; null for none. */
  readonly place: NavigationPath | null;
  readonly parts: readonly PagePart[];
}

export interface PagePart {
  readonly id: string;
  /** Empty if there is nothing to show at present. */
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

export const STYLE_PATH = '/assets/style.css';
export const SCRIPT_PATH = '/assets/live.js';

/** Three bars in the page itself, so that a browser asks for no other icon. */
const ICON =
  '<link rel="icon" href="data:image/svg+xml,%3Csvg xmlns=%22http://www.w3.org/2000/svg%22 viewBox=%220 0 16 16%22%3E' +
  '%3Cpath fill=%22%235a3fd0%22 d=%22M1 9h4v6H1zM6 5h4v10H6zM11 1h4v14h-4z%22/%3E%3C/svg%3E">';

export function part(id: string, ...blocks: readonly Block[]): PagePart {
  return { id, html: blocksHtml(blocks) };
}

export function announcedPart(id: string, ...blocks: readonly Block[]): PagePart {
  return { ...part(id, ...blocks), isAnnounced: true };
}

/** @param crumbs the place that the page belongs to */
export function headPart(title: string, crumbs: Text = '', ...blocks: readonly Block[]): PagePart {
  const above = crumbs === '' ? '' : blocksHtml([textBlock(crumbs, 'crumbs')]);
  return { id: 'head', html: `${above}<h1>${escapeHtml(title)}</h1>${blocksHtml(blocks)}` };
}

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
  return htmlDocument(
    page.title,
    `${ICON}\n<link rel="stylesheet" href="${STYLE_PATH}">\n<script type="module" src="${SCRIPT_PATH}"></script>`,
    '<a class="skip" href="#main">Skip to the content</a>\n' +
      `<header class="top"><a class="name" href="/">qianmo</a><nav aria-label="Dashboard">${links.join('')}</nav>` +
      '<span id="connection" role="status"></span></header>\n' +
      `<main id="main" tabindex="-1"${live}>\n${partsHtml(page)}\n</main>`,
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

/** Tells versions of a part apart. */
export function digestOf(html: string): string {
  return createHash('sha256').update(html).digest('hex').slice(0, 12);
}

/** The path of a run's page. */
export function runPath(key: string): string {
  return `/runs/${inPath(key)}`;
}

/** The path of the page of a sweep, a search or a comparison. */
export function sweepPath(key: string): string {
  return `/sweeps/${inPath(key)}`;
}

function inPath(key: string): string {
  return encodeURIComponent(key).replaceAll('%3A', ':');
}
