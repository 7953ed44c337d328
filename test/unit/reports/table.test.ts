// One table value, written as text and as HTML.

import { describe, expect, test } from 'vitest';
import { htmlTable, textTable, type Table } from '../../../coordinator/reports/table.js';

const table: Table = {
  columns: [
    { title: 'arm', alignment: 'left' },
    { title: 'loss', unit: 'nats', marksBest: true },
    { title: 'verdict', shownOn: 'terminal' },
    { title: '', unit: 'a\nb', shownOn: 'page' },
    { title: 'last', isOptional: true, page: { title: 'very last', unit: 'of <all>' } },
  ],
  rows: [
    ['x', { text: '0.5', emphasis: 'best' }, { text: 'better', emphasis: 'better' }, '', '1'],
    [
      { text: 'long & b', page: '<b>long</b>' },
      '10.25',
      { text: 'worse', emphasis: 'worse' },
      { text: '', tint: 0.25 },
      '2 & 3',
    ],
  ],
};

describe('on a terminal', () => {
  test('columns are aligned, the best has a star and worse values are in capitals', () => {
    expect(textTable(table)).toBe(
      [
        'arm         loss  verdict   last',
        '            nats',
        'x           0.5*   better      1',
        'long & b  10.25     WORSE  2 & 3',
      ].join('\n'),
    );
  });

  test('an optional column is dropped when the table is too wide', () => {
    expect(textTable(table, 32)).toContain('last');
    expect(textTable(table, 31)).not.toContain('last');
    expect(textTable(table, 31)).toContain('verdict');
  });

  test('columns without titles have no head', () => {
    const columns = [{ title: '', alignment: 'left' }, { title: '' }] as const;
    const rows = [
      ['a', 'bbb'],
      ['ccc', 'd'],
    ];
    expect(textTable({ columns, rows })).toBe('a    bbb\nccc    d');
  });

  test('a row without a cell for every column is refused', () => {
    expect(() => textTable({ columns: [{ title: 'a' }, { title: 'b' }], rows: [['1']] })).toThrow(
      'no element 1 among 1',
    );
  });
});

describe('on a page', () => {
  const html = htmlTable(table, 'tight');

  test('heads are those of the page, with units in small print', () => {
    expect(html).toContain(
      '<table class="tight"><thead><tr><th>arm</th><th>loss<small>nats</small></th>' +
        '<th><small>a</small><small>b</small></th><th>very last<small>of &lt;all&gt;</small></th>',
    );
  });

  test('cells are escaped unless they are HTML, and have a class and a tint', () => {
    expect(html).toContain(
      '<tr><td>x</td><td class="best">0.5</td><td></td><td>1</td></tr>' +
        '<tr><td><b>long</b></td><td>10.25</td>' +
        '<td style="background:rgba(var(--heat), 0.250)"></td><td>2 &amp; 3</td></tr>',
    );
  });
});
