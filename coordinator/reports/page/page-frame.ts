/** The frame of every page: one self-contained HTML file with its style inside. */

import { dotHtml, escapeHtml } from '../html-text.js';
import { REPORT_STYLE } from './page-style.js';

/** @param parts HTML, like `title`; empty parts are left out */
export function pageHtml(title: string, parts: readonly string[]): string {
  return (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n' +
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n' +
    `<title>${title}</title>\n<style>${REPORT_STYLE}</style>\n</head>\n<body>\n<main>\n` +
    `${parts.filter((part) => part !== '').join('\n')}\n</main>\n</body>\n</html>\n`
  );
}

/** The big numbers under a page's title. */
export function factsHtml(facts: readonly (readonly [value: string, name: string])[]): string {
  const boxes = facts.map(([value, name]) => `<div><b>${value}</b><span>${name}</span></div>`);
  return `<div class="facts">${boxes.join('')}</div>`;
}

/** A legend above plots whose names do not fit on one line of the drawing. */
export function legendHtml(drawn: readonly { name: string; colour: string }[]): string {
  const items = drawn.map(
    ({ name, colour }) => `<span>${dotHtml(colour)}${escapeHtml(name)}</span>`,
  );
  return `<div class="legend">${items.join('')}</div>`;
}

export function section(title: string, note: string, content: string): string {
  return `<section><h2>${title}</h2>${note === '' ? '' : `<p class="note">${note}</p>`}${content}</section>`;
}

export function card(content: string): string {
  return `<div class="card">${content}</div>`;
}
