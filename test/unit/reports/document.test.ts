/** One document, written as text and as a page. */

import { describe, expect, test } from 'vitest';
import { asPage } from '../../../coordinator/reports/document/as-page.js';
import { asText } from '../../../coordinator/reports/document/as-text.js';
import { drawChart } from '../../../coordinator/reports/document/charts.js';
import {
  columnsOf,
  factsBlock,
  figure,
  link,
  section,
  small,
  tableBlock,
  textBlock,
  type Document,
  type Table,
} from '../../../coordinator/reports/document/document.js';
import { durationText } from '../../../coordinator/reports/document/format.js';

const table: Table = {
  columns: [
    { title: 'arm', align: 'left' },
    { title: 'loss', unit: 'nats', marksBest: true },
    { title: 'verdict', on: 'terminal' },
    { title: 'on a page', unit: 'of <all>', on: 'page' },
    { title: 'last', isOptional: true },
  ],
  rows: [
    ['x', { cell: '0.5', emphasis: 'best' }, { cell: 'better', emphasis: 'better' }, '7', '1'],
    [
      link('/a?b&c', 'long & b'),
      '10.25',
      { cell: 'worse', emphasis: 'worse' },
      '8',
      ['2', small(' & 3')],
    ],
  ],
};

const chart = (spread: number) => ({
  ...{ look: 'lines' as const, x: { title: 'outer steps' }, y: { title: 'loss' } },
  series: [
    {
      ...{ name: 'a', color: 'blue' },
      points: [0, 75, 150].map((x) => ({ x, y: 0.2574 + (spread * x) / 150 })),
    },
  ],
});

const document: Document = {
  title: 'A <report>',
  subtitle: ['of ', { text: 'run', style: 'code' }],
  data: { loss: 0.5 },
  blocks: [
    factsBlock(['3', 'adgroups'], ['1,000', 'rows', 'of two logs']),
    section('Losses', 'in `nats`', [
      tableBlock('Losses', table),
      figure('Course', 'falls', chart(0.1), { columns: columnsOf('step'), rows: [['0']] }),
    ]),
    section('Nothing', 'is left out', []),
    section('Page', '', [textBlock('For pages.')], 'page'),
    textBlock('It ended \u001b[31mwell.', 'better'),
  ],
};

test('a terminal shows titles with notes, facts as a sentence, tables, and no charts or control characters', () => {
  expect(asText(document, 60)).toBe(
    [
      'A <report>: of run',
      '',
      '3 adgroups, 1,000 rows (of two logs)',
      '',
      'Losses: in `nats`',
      'arm        loss   verdict   last',
      '           nats',
      'x           0.5*   better      1',
      'long & b  10.25     WORSE  2 & 3',
      '',
      'It ended \\u001b[31mwell.',
    ].join('\n'),
  );
});

describe('a page', () => {
  const html = asPage(document);

  test('escapes texts, and shows commands as code', () => {
    expect(html).toContain('<h1>A &lt;report&gt;</h1><p>of <code>run</code></p>');
    expect(html).toContain('<h2>Losses</h2><p class="note">in <code>nats</code></p>');
    expect(html).toContain('<p class="better">');
    expect(html).not.toContain('<h2>Nothing</h2>');
    expect(html).toContain('<b>1,000</b><span>rows</span><small>of two logs</small>');
  });
});

test.each([0.0013, 0.00002, 0.4])('ticks differ where values differ by %f', (spread) => {
  const drawing = drawChart(chart(spread));
  const ticks = [...drawing.matchAll(/<text[^>]*>(0\.\d+)<\/text>/g)].map(([, text]) => text);
  expect(ticks.length).toBeGreaterThanOrEqual(3);
  expect(new Set(ticks).size).toBe(ticks.length);
});

test.each([
  [350, '350 ms'],
  [4_210, '4.2 s'],
  [59_960, '1 min'],
  [200_000, '3 min 20 s'],
  [273_600_000, '3 d 4 h'],
])('%d ms are %s', (durationMs, text) => {
  expect(durationText(durationMs)).toBe(text);
});
