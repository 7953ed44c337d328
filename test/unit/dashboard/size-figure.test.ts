// The drawing of losses by size: one for each bucket with tasks, and a table with all of them.

import { describe, expect, it } from 'vitest';
import { courseFigures, sizeFigures } from '../../../coordinator/dashboard/run-page.js';
import { RunHistory } from '../../../coordinator/record/run-history.js';
import type { SizeLosses } from '../../../shared/events/size-losses.js';
import { blocksHtml } from '../../../coordinator/reports/document/as-page.js';
import { stepEvent } from '../../fixtures/written-record.js';

function historyOf(...losses: (SizeLosses | undefined)[]): RunHistory {
  const history = new RunHistory();
  for (const [index, bySize] of losses.entries())
    history.admit({
      ...stepEvent(index + 1, losses.length),
      ...(bySize === undefined ? {} : { bySize }),
      epochMs: index,
    });
  return history;
}

const losses: SizeLosses = {
  sizes: ['0-10', '11-<b>', '>30'],
  ...{ taskCounts: [3, 1, 0], weights: [0.75, 0.25, 0] },
  ...{ queryLossSums: [0.375, 0.1, 0], supportLossSums: [0.5625, 0.2, 0] },
};

const htmlOf = (history: RunHistory): string => blocksHtml(sizeFigures(history));

function firstRowOf(html: string): string[] {
  const [row = ''] = /<tbody><tr>(.*?)<\/tr>/.exec(html)?.slice(1) ?? [];
  const texts = row.replaceAll(/<[^>]*>/g, '|').split(/\|+/);
  return texts.filter((text) => text !== '');
}

describe('the drawing of losses by size', () => {
  it('is one for each bucket that has tasks, with a name, and a dashed and a solid line', () => {
    const html = htmlOf(historyOf(losses, losses, losses, losses));
    expect(html.match(/<svg /g)).toHaveLength(2);
    expect(html).toContain('aria-label="Loss by size of the adgroups: 0-10 support rows"');
    expect(html).toContain('<h3>0-10 support rows <span>12 tasks</span></h3>');
    expect(html.match(/stroke-dasharray/g)).toHaveLength(2);
    expect(html).toContain(
      'Latest query loss after adaptation: 0.5000 at 0-10, 0.4000 at 11-&lt;b&gt;.',
    );
    expect(html).not.toContain('<b>');
  });

  it('has a table with tasks and all losses of each bucket', () => {
    const html = htmlOf(historyOf(losses));
    for (const column of ['0-10: tasks', '0-10: support before', '&gt;30: query after'])
      expect(html).toContain(`>${column}</th>`);
    expect(html).not.toContain(': gain</th>');
    expect(firstRowOf(html)).toEqual(['1', '3', '0.5000', '0.7500', '1', '0.4000', '0.8000', '0']);
  });

  it('draws the query loss before adaptation in place of the support loss, and tells the gain', () => {
    const measured = { ...losses, queryLossBeforeSums: [0.6, 0.15, 0] };
    const html = htmlOf(historyOf(losses, measured));
    expect(html).toContain('query loss before adaptation (dashed)');
    expect(html).not.toContain('support loss before adaptation (dashed)');
    // 0.6 / 0.75 before, 0.375 / 0.75 after
    const inTable = firstRowOf(htmlOf(historyOf(measured)));
    expect(inTable.slice(0, 6)).toEqual(['1', '3', '0.8000', '0.5000', '0.3000', '0.7500']);
  });

  it('is not there for a record without such losses, where no bucket has tasks, or where there is one bucket', () => {
    const empty = { ...losses, taskCounts: [0, 0, 0], weights: [0, 0, 0] };
    const one = {
      ...{ sizes: ['all'], taskCounts: [4], weights: [1] },
      ...{ queryLossSums: [0.5], supportLossSums: [0.7] },
    };
    for (const history of [historyOf(undefined), historyOf(empty), historyOf(one)]) {
      expect(sizeFigures(history)).toEqual([]);
      expect(courseFigures(history).map(({ title }) => title)).toContain('Loss');
    }
  });
});
