/** One document, written as text and as a page. */

import { describe, expect, test } from 'vitest';
import { asPage } from '../../../coordinator/reports/document/as-page.js';
import { asText, textTable } from '../../../coordinator/reports/document/as-text.js';
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

describe('a terminal', () => {
  test('shows titles with notes, facts as a sentence, tables, and no charts or control characters', () => {
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

  test('drops optional columns of a table that is too wide', () => {
    expect(textTable(table, 32)).toContain('last');
    expect(textTable(table, 31)).not.toContain('last');
    expect(textTable(table, 31)).toContain('verdict');
  });

  test('continues a table that is still too wide below, with its left columns repeated', () => {
    const columns = columnsOf('<run', '<arm', 'first loss', 'second loss');
    expect(textTable({ columns, rows: [['a', 'x', '1', '2']] }, 21)).toBe(
      [
        'run  arm  first loss',
        'a    x             1',
        '',
        'run  arm  second loss',
        'a    x              2',
      ].join('\n'),
    );
  });

  test('shows no head for columns without titles, and refuses a row that is too short', () => {
    const rows = [
      ['a', 'bbb'],
      ['ccc', 'd'],
    ];
    expect(textTable({ columns: columnsOf('<', ''), rows })).toBe('a    bbb\nccc    d');
    expect(() => textTable({ columns: columnsOf('a', 'b'), rows: [['1']] })).toThrow(
      'no element 1 among 1',
    );
  });
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

  test('has tables in regions that keyboards reach, with units, links and emphasis', () => {
    expect(html).toContain('role="region" aria-label="Losses" tabindex="0"><table>');
    expect(html).toContain('<th scope="col">on a page<small>of &lt;all&gt;</small></th>');
    expect(html).toContain('<td class="best">0.5</td><td>7</td><td>1</td></tr>');
    expect(html).toContain('<a href="/a?b&amp;c">long &amp; b</a></th><td>10.25</td>');
    expect(html).toContain('<td>2<small> &amp; 3</small></td>');
    expect(html).not.toContain('verdict');
  });

  test('names drawings for those who do not see them, and has their values as a table', () => {
    expect(html).toContain('<svg role="img" aria-label="Course. falls"');
    expect(html).toContain('<details><summary>Table</summary>');
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
  [999.7, '1.0 s'],
  [4_210, '4.2 s'],
  [59_940, '59.9 s'],
  [59_960, '1 min'],
  [200_000, '3 min 20 s'],
  [7_500_000, '2 h 5 min'],
  [273_600_000, '3 d 4 h'],
])('%d ms are %s', (durationMs, text) => {
  expect(durationText(durationMs)).toBe(text);
});
