/** The curves as one picture, which reads well on a light and on a dark page. */

import type { Chart } from '../../../coordinator/reports/document/document.js';
import { drawChart } from '../../../coordinator/reports/document/charts.js';
import { curvesBySet, gapClosed, lossOfArm, meanOver, type SetCurves } from './evidence-curves.js';
import type { EvidenceRecord } from './evidence-record.js';

const COLORS: Readonly<Record<string, string>> = {
  global: '#8a8a8a',
  level: '#c2762d',
  gradient: '#8659b8',
  posterior: '#2a7fd4',
  'bayes-level': '#d9a066',
  bayes: '#4a9d5b',
};
const [PANEL_WIDTH, PANEL_HEIGHT, TITLE_HEIGHT, COLUMNS] = [560, 300, 30, 2];
const STYLE =
  '<style>svg { --ink-2: #52525b; --rule: #d4d4d8; } text { font-family: sans-serif; }' +
  '@media (prefers-color-scheme: dark) { svg { --ink-2: #a1a1aa; --rule: #3f3f46; } }</style>';

export function evidencePicture(record: EvidenceRecord): string {
  const curves = curvesBySet(record);
  const panels = curves.map((curve, place) => {
    const [x, y] = [
      (place % COLUMNS) * PANEL_WIDTH,
      TITLE_HEIGHT + Math.floor(place / COLUMNS) * (PANEL_HEIGHT + TITLE_HEIGHT),
    ];
    const drawn = drawChart(chartOf(curve)).replace(
      /^<svg/,
      `<svg x="${x}" y="${y + TITLE_HEIGHT}" width="${PANEL_WIDTH}" height="${PANEL_HEIGHT}"`,
    );
    return `${words(x + 70, y + 20, curve.set, 'var(--ink-2)')}${drawn}`;
  });
  const legend = Object.entries(COLORS).map(([arm, color], place) =>
    words(70 + place * 130, 20, `— ${arm}`, color),
  );
  const height = TITLE_HEIGHT + Math.ceil(curves.length / COLUMNS) * (PANEL_HEIGHT + TITLE_HEIGHT);
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${COLUMNS * PANEL_WIDTH} ${height}">` +
    `${STYLE}${legend.join('')}${panels.join('')}</svg>\n`
  );
}

function words(x: number, y: number, text: string, color: string): string {
  return `<text x="${x}" y="${y}" fill="${color}" font-size="15">${text}</text>`;
}

function chartOf(curve: SetCurves): Chart {
  const { kind, supportRows } = curve;
  const arms = Object.keys(COLORS).filter((arm) => kind === 'world' || !arm.startsWith('bayes'));
  return {
    look: 'lines',
    size: 'half',
    x: { title: 'support rows of the adgroup', categories: supportRows.map(String) },
    y: { title: kind === 'world' ? 'share of the gap closed, %' : 'logloss' },
    series: arms.map((arm) => ({
      name: arm,
      color: COLORS[arm] ?? '',
      points: supportRows.map((rows, x) => ({
        x,
        y:
          kind === 'world'
            ? 100 * meanOver(curve, rows, gapClosed(arm, 'global')).value
            : meanOver(curve, rows, lossOfArm(arm)).value,
      })),
    })),
  };
}
