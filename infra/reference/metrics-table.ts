/** The metrics as a Markdown table, and a page with such a table in its place. */

import { definitionOf, METRIC_NAMES } from '../../shared/metrics/metric-definitions.js';

const BEGIN = '<!-- The table is made by npm run docs:reference. -->';
const END = '<!-- End of the table. -->';

function metricsTable(): string {
  return [
    '| metric | kind | from | labels | meaning |',
    '|---|---|---|---|---|',
    ...METRIC_NAMES.map((name) => {
      const { kind, from, labels = {}, help } = definitionOf(name);
      const sources = from.length === 4 ? 'all' : from.join(', ');
      return `| \`${name}\` | ${kind} | ${sources} | ${labelsText(labels)} | ${help} |`;
    }),
  ].join('\n');
}

function labelsText(labels: Readonly<Record<string, readonly string[] | null>>): string {
  return Object.entries(labels)
    .map(([label, values]) => `\`${label}\`${values === null ? '' : `: ${values.join(', ')}`}`)
    .join('; ');
}

/** @throws Error if the page has no place for the table. */
export function withMetricsTable(page: string): string {
  const [before, rest] = page.split(BEGIN);
  const after = rest?.split(END)[1];
  if (before === undefined || after === undefined) throw new Error(`a page without "${BEGIN}"`);
  return `${before}${BEGIN}\n\n${metricsTable()}\n\n${END}${after}`;
}
