/**
 * The comparison as a picture: each side's throughput relative to that of the fastest accurate
 * peer.
 */

import { standingsOf, verdictOf, type CellResult, type Setting } from './cell-results.js';
import { SIDE_NAMES, type SideName } from './sides/sides.js';

const COLOURS: Readonly<Record<SideName, string>> = {
  ours: '#1f6feb',
  jax: '#e0912f',
  torch: '#8a8f98',
};
const LABELS: Readonly<Record<SideName, string>> = { ours: 'ours', jax: 'JAX', torch: 'PyTorch' };
const WIDTH = 860;
const PANEL_HEIGHT = 230;
const LEFT = 46;
const TOP = 44;
const BAR_WIDTH = 24;
const GOALS = [1, 1.3, 1.6];

/** Standalone SVG: a panel for each setting, a group of bars for each cell. */
export function comparisonSvg(cells: readonly CellResult[], title: string): string {
  const settings: readonly Setting[] = ['one thread', 'two cores'];
  const height = TOP + settings.length * (PANEL_HEIGHT + 50);
  const legend = SIDE_NAMES.map((side, index) => {
    const x = LEFT + index * 90;
    return `<rect x="${x}" y="22" width="12" height="12" fill="${COLOURS[side]}"/>${label(x + 17, 32, LABELS[side])}`;
  });
  const panels = settings.map((setting, index) =>
    panel(cells, setting, TOP + index * (PANEL_HEIGHT + 50)),
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${height}" fill="white"/>`,
    label(LEFT, 14, title),
    ...legend,
    ...panels,
    '</svg>',
    '',
  ].join('\n');
}

function panel(cells: readonly CellResult[], setting: Setting, top: number): string {
  const bars = cells.map((cell) => {
    const standings = standingsOf(cell, setting).filter(({ isAccurate }) => isAccurate);
    const unit = verdictOf(cell, setting)?.fastestAccuratePeer?.tasksPerSecond ?? null;
    return SIDE_NAMES.map((side) => {
      const best = standings.find((standing) => standing.side === side);
      return best === undefined || unit === null ? null : best.tasksPerSecond / unit;
    });
  });
  const largest = Math.max(2, ...bars.flat().map((ratio) => ratio ?? 0));
  const bottom = top + 26 + PANEL_HEIGHT - 40;
  const yOf = (ratio: number): number => bottom - (ratio / largest) * (PANEL_HEIGHT - 50);
  const groupWidth = (WIDTH - LEFT - 10) / Math.max(1, cells.length);
  const lines = GOALS.map(
    (goal) =>
      `<line x1="${LEFT}" x2="${WIDTH - 10}" y1="${yOf(goal)}" y2="${yOf(goal)}" stroke="#999" ` +
      `stroke-dasharray="${goal === 1 ? 'none' : '4 3'}"/>${label(8, yOf(goal) + 4, goal.toFixed(1))}`,
  );
  const groups = cells.map((cell, index) => {
    const left = LEFT + index * groupWidth + (groupWidth - 3 * BAR_WIDTH) / 2;
    const drawn = SIDE_NAMES.map((side, place) => {
      const ratio = bars[index]?.[place] ?? null;
      if (ratio === null) return '';
      const x = left + place * BAR_WIDTH;
      const y = yOf(ratio);
      return (
        `<rect x="${x}" y="${y}" width="${BAR_WIDTH - 3}" height="${bottom - y}" fill="${COLOURS[side]}"/>` +
        label(x + 10, y - 4, ratio.toFixed(2), 'middle', 10)
      );
    });
    return [...drawn, label(left + 1.5 * BAR_WIDTH, bottom + 16, cell.cell, 'middle')].join('');
  });
  const heading = `${setting}: tasks per second relative to the fastest accurate peer`;
  return [label(LEFT, top + 14, heading), ...lines, ...groups].join('\n');
}

function label(x: number, y: number, text: string, anchor = 'start', size = 12): string {
  const escaped = text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
  return `<text x="${x}" y="${y}" text-anchor="${anchor}" font-size="${size}">${escaped}</text>`;
}
