/**
 * The market of infra/examples/market.yaml over its seeds, as a user runs it. Seeds that are done are kept in the folder, so
 * that a bench that was stopped goes on. Writes `infra/results/market.md`, `.json` and `.html`.
 *
 *   npm run bench:market
 *   npm run bench:market -- --seeds 4 --name market-trial
 */

import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import {
  MarketReportSchema,
  type MarketReport,
} from '../../../coordinator/market/market-report.js';
import { smallAdvertisers } from '../../../coordinator/market/market-bar.js';
import { cellText, plainText } from '../../../coordinator/reports/document/as-text.js';
import type { Table } from '../../../coordinator/reports/document/document.js';
import {
  barSentence,
  classesTable,
  CLASSES_LEGEND,
  differencesTable,
  marketDocument,
  meansTable,
} from '../../../coordinator/reports/market-document.js';
import { packageRoot } from '../../../infra/library/package-root.js';
import { loadMarketConfig } from '../../../shared/config/market-config.js';
import { benchHeader, folderOfCommit, markdownTable } from '../bench-header.js';
import { qianmo } from '../qianmo-command.js';
import { benchOptions } from '../options/bench-options.js';
import { text, wholeNumber } from '../options/option-values.js';

const EXAMPLE = new URL('infra/examples/market.yaml', packageRoot).pathname;
const RESULTS = new URL('infra/results/', packageRoot).pathname;

const header = benchHeader();
const options = benchOptions(import.meta.url, {
  seeds: { value: wholeNumber(), about: 'number of seeds; those of the example if absent' },
  folder: {
    value: text,
    default: folderOfCommit('market', header),
    about: 'folder of what the bench makes meanwhile',
  },
  name: { value: text, default: 'market', about: 'name of the record and its page' },
});

const example = await loadMarketConfig(EXAMPLE);
const { first, count } = example.seeds;
const config = {
  ...example,
  seeds: { first, count: options.seeds ?? count },
  output: options.folder,
};
mkdirSync(options.folder, { recursive: true });
const configPath = join(options.folder, 'market.yaml');
// JSON is valid YAML.
writeFileSync(configPath, JSON.stringify(config));
qianmo('simulate-market', configPath);

const json = readFileSync(join(options.folder, 'market.json'), 'utf8');
const report = MarketReportSchema.parse(JSON.parse(json));
writeFileSync(join(RESULTS, `${options.name}.json`), json);
copyFileSync(join(options.folder, 'market.html'), join(RESULTS, `${options.name}.html`));
writeFileSync(join(RESULTS, `${options.name}.md`), pageOf(report));

function pageOf(found: MarketReport): string {
  const { commit, date, machine, loadBefore } = header;
  const { title = '', subtitle = '' } = marketDocument(found);
  const load = `load ${loadBefore} before and ${(loadavg()[0] ?? 0).toFixed(1)} after`;
  return `${[
    '# Market',
    `\`npm run bench:market\`, commit ${commit}, ${date}, ${machine}, ${load}.`,
    `${title}: ${plainText(subtitle)}. The config is infra/examples/market.yaml, scored by ${found.scorer}.`,
    ...found.bar.map((item) => `- ${barSentence(item)}`),
    '## Means over seeds',
    markdownOf(meansTable(found)),
    '## Difference from global',
    'Paired by seed, with 95 % intervals over seeds (Student). Counts as a part of those of global, shares in points.',
    markdownOf(differencesTable(found)),
    '## Who wins what',
    CLASSES_LEGEND,
    markdownOf(classesTable(found)),
    Object.values(smallAdvertisers(found.classes))
      .map((sentence) => `- ${sentence}`)
      .join('\n'),
  ].join('\n\n')}\n`;
}

function markdownOf({ columns, rows }: Table): string {
  const titles = columns.map(({ title }) => title);
  const lines = rows.map((row) => row.map((cell) => cellText(cell)));
  return markdownTable(titles, lines).join('\n');
}
