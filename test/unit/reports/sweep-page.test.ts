/** The page of a search. */

import { expect, test } from 'vitest';
import { asPage } from '../../../coordinator/reports/document/as-page.js';
import { sweepDocument } from '../../../coordinator/reports/sweep-document.js';
import { recordedSearch } from '../../fixtures/evaluation/recorded-search.js';

const DIAMOND = /<path d="M0 -1L1 0L0 1L-1 0Z" transform="matrix\([\d.,]+?,([\d.]+),[\d.]+\)"/g;
const CIRCLE = /<path d="M1 0A1 [^"]*" transform="matrix\([\d.,]+?,([\d.]+),[\d.]+\)"/g;

test('draws averages where training ends, apart from the dots of rungs', () => {
  const html = asPage(sweepDocument(recordedSearch()));
  const placesOf = (mark: RegExp): number[] => [...html.matchAll(mark)].map(([, x]) => Number(x));
  const dots = placesOf(CIRCLE);
  expect(dots).toHaveLength(7);
  expect(placesOf(DIAMOND)).toEqual([Math.max(...dots)]);
  expect(html).toContain('mean of t01, t02');
  expect(html).toContain('a01 *');
});
