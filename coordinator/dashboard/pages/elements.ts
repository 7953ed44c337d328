/** Pieces that the pages of the dashboard are made of. Texts are escaped here; `Html` is already HTML. */

import { escapeHtml } from '../../reports/html-text.js';
import type { RunState } from '../../record/run-state.js';

/** HTML that needs no escaping any more. */
export interface Html {
  readonly html: string;
}

export type Cell = string | Html;

interface RegionTable {
  /** Names the table to screen readers. */
  readonly label: string;
  /** `right` by default, as numbers are; `wrap` for texts that may be long. */
  readonly columns: readonly (readonly [title: string, kind?: 'right' | 'text' | 'wrap'])[];
  /** The first cell of a row names it. */
  readonly rows: readonly (readonly Cell[])[];
}

function htmlOf(cell: Cell): string {
  return typeof cell === 'string' ? escapeHtml(cell) : cell.html;
}

/** A table in a region that scrolls sideways, by keyboard too. */
export function regionTable(table: RegionTable): string {
  return `<div class="card scroll" role="region" aria-label="${escapeHtml(table.label)}" tabindex="0">${tableHtml(table)}</div>`;
}

function tableHtml({ columns, rows }: RegionTable): string {
  const classOf = (index: number): string => {
    const kind = columns[index]?.[1] ?? 'right';
    if (kind === 'right') return '';
    return ` class="${kind === 'wrap' ? 'text wrap' : 'text'}"`;
  };
  const heads = columns.map(
    ([title], index) => `<th scope="col"${classOf(index)}>${escapeHtml(title)}</th>`,
  );
  const body = rows.map((row) => {
    const cells = row.map((cell, index) =>
      index === 0
        ? `<th scope="row"${classOf(index)}>${htmlOf(cell)}</th>`
        : `<td${classOf(index)}>${htmlOf(cell)}</td>`,
    );
    return `<tr>${cells.join('')}</tr>`;
  });
  return `<table><thead><tr>${heads.join('')}</tr></thead><tbody>${body.join('')}</tbody></table>`;
}

interface Figure {
  readonly title: string;
  /** Says what the drawing shows to who does not see it. */
  readonly summary: string;
  /** The drawing, an SVG with `role="img"`. */
  readonly drawing: string;
  /** A legend for drawings without one. */
  readonly legend?: string;
  readonly table: Omit<RegionTable, 'label'>;
  readonly isWide?: boolean;
}

/** A drawing with its table behind it. */
export function figure({ title, summary, drawing, legend = '', table, isWide }: Figure): string {
  const named = drawing.replace(
    '<svg role="img"',
    `<svg role="img" aria-label="${escapeHtml(`${title}. ${summary}`)}"`,
  );
  const label = `Values of the drawing: ${title}`;
  return (
    `<figure${isWide === true ? ' class="wide"' : ''}><figcaption>${escapeHtml(title)}<span>${escapeHtml(summary)}</span></figcaption>` +
    `${legend}<div class="drawing" role="region" aria-label="${escapeHtml(`Drawing: ${title}`)}" tabindex="0">${named}</div>` +
    `<details><summary>Table</summary><div class="scroll" role="region" aria-label="${escapeHtml(label)}" tabindex="0">` +
    `${tableHtml({ label, ...table })}</div></details></figure>`
  );
}

const TONES: Readonly<Record<RunState, string>> = {
  running: 'live',
  'waiting for workers': 'wait',
  paused: 'wait',
  stalled: 'bad',
  finished: 'good',
  failed: 'bad',
  interrupted: 'wait',
  lost: 'bad',
};

export function stateBadge(state: RunState): Html {
  return { html: `<span class="state ${TONES[state]}">${state}</span>` };
}

export function link(href: string, text: string): Html {
  return { html: `<a href="${escapeHtml(href)}">${escapeHtml(text)}</a>` };
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

export function sectionHtml(title: string, content: string, note = ''): string {
  if (content === '') return '';
  const noteHtml = note === '' ? '' : `<p class="note">${escapeHtml(note)}</p>`;
  return `<section><h2>${escapeHtml(title)}</h2>${noteHtml}${content}</section>`;
}

/** The big numbers of a page. */
export function facts(
  shown: readonly (readonly [value: string, name: string, small?: string])[],
): string {
  const boxes = shown.map(
    ([value, name, small]) =>
      `<div><b>${escapeHtml(value)}</b><span>${escapeHtml(name)}</span>` +
      `${small === undefined ? '' : `<small>${escapeHtml(small)}</small>`}</div>`,
  );
  return `<div class="facts">${boxes.join('')}</div>`;
}

/** A sentence in the place of what is not there. Commands in it stand between backticks. */
export function nothing(text: string): string {
  return `<p class="none">${escapeHtml(text).replace(/`([^`]+)`/g, '<code>$1</code>')}</p>`;
}

/** `2026-11-27 07:39:58`, in universal time. */
export function timeText(epochMs: number): string {
  return new Date(epochMs).toISOString().slice(0, 19).replace('T', ' ');
}

/** Every n-th of the items, and the last one, so that at most `countMax` are left. */
export function thinned<Item>(items: readonly Item[], countMax: number): readonly Item[] {
  const every = Math.ceil(items.length / countMax);
  return items.filter((_, index) => index % every === 0 || index === items.length - 1);
}
