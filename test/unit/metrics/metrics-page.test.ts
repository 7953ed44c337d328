import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { withMetricsTable } from '../../../infra/cli/reference-pages.js';

const PAGE = 'infra/docs/operation/metrics.md';

it('the page of metrics has their table: npm run docs:reference', () => {
  const page = readFileSync(PAGE, 'utf8');
  expect(withMetricsTable(page) === page, `${PAGE} is not in step`).toBe(true);
});
