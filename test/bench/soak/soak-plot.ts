/** The measures of a soak as a picture: a panel for each, over time. */

import type { Measured } from './soak-samples.js';

const COLUMNS = 3;
const PANEL_WIDTH = 300;
const PANEL_HEIGHT = 110;
const GAP = 24;
const HEAD = 18;

/** Standalone SVG. Every panel starts at 0. */
export function soakSvg(measures: readonly Measured[]): string {
  const rows = Math.ceil(measures.length / COLUMNS);
  const width = GAP + COLUMNS * (PANEL_WIDTH + GAP);
  const height = GAP + rows * (PANEL_HEIGHT + HEAD + GAP);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="11">`,
    `<rect width="${width}" height="${height}" fill="white"/>`,
    ...measures.map((measure, index) => {
      const left = GAP + (index % COLUMNS) * (PANEL_WIDTH + GAP);
      const top = GAP + Math.floor(index / COLUMNS) * (PANEL_HEIGHT + HEAD + GAP);
      return panel(measure, left, top);
    }),
    '</svg>',
    '',
  ].join('\n');
}

function panel({ name, unit, points }: Measured, left: number, top: number): string {
  const largest = Math.max(...points.map(({ value }) => value), 1e-9);
  const minutes = Math.max(points.at(-1)?.minute ?? 0, 1e-9);
  const bottom = top + HEAD + PANEL_HEIGHT;
  const places = points.map(({ minute, value }) => {
    const x = left + (minute / minutes) * PANEL_WIDTH;
    const y = bottom - (value / largest) * (PANEL_HEIGHT - 4);
    return `${x.toFixed(1)},${y.toFixed(1)}`;
  });
  const most = `${Number(largest.toPrecision(3))}${unit === 'MiB' ? ' MiB' : ''}`;
  return [
    label(left, top + 10, `${name}, up to ${most}`),
    `<rect x="${left}" y="${top + HEAD}" width="${PANEL_WIDTH}" height="${PANEL_HEIGHT}" fill="none" stroke="#ccc"/>`,
    `<polyline points="${places.join(' ')}" fill="none" stroke="#1f6feb"/>`,
    label(left + PANEL_WIDTH - 42, bottom + 12, `${minutes.toFixed(0)} min`),
  ].join('\n');
}

function label(x: number, y: number, text: string): string {
  return `<text x="${x}" y="${y}">${text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')}</text>`;
}
