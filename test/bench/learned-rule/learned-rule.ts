/**
 * The learned update rule against tuned baselines on several streams. Writes
 * `infra/results/learned-rule.json` and `.md`. A completed case is kept in the folder and not run
 * again. A case that was not requested, or whose data is missing, keeps its recorded figures.
 *
 *   npm run bench:learned-rule -- --days 12 --seeds 1,2,3 --only drifting
 */

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { comparisonRecord } from '../../../coordinator/reports/rule-comparison-document.js';
import { compareRules } from '../../../coordinator/streaming/rule-comparison.js';
import { packageRoot } from '../../../infra/library/package-root.js';
import { rowCountOf } from '../../../shared/streaming/stream-rows.js';
import { benchHeader } from '../bench-header.js';
import { benchCases, type BenchCase } from './cases.js';
import { resultsTable, type CaseResult } from './results-table.js';
import { benchOptions, endAsUsageError } from '../options/bench-options.js';
import { listOf, anySeed, text, wholeNumber } from '../options/option-values.js';

const RESULTS = new URL('infra/results/', packageRoot).pathname;

const options = benchOptions(import.meta.url, {
  days: { value: wholeNumber(), default: '12', about: 'days of each stream' },
  seeds: { value: listOf(anySeed), default: '1,2,3', about: 'seeds, with commas between them' },
  only: {
    value: listOf(text),
    about: 'measures the cases with these words in their names, with commas between them',
  },
  folder: {
    value: text,
    default: 'runs/learned-rule',
    about: 'folder of what the bench makes meanwhile',
  },
});

const cases = benchCases(options.days, options.seeds);
const only = options.only ?? cases.map(wordOf);
const unknown = only.find((word) => word === '' || !cases.some((each) => hasWord(each, word)));
if (unknown !== undefined)
  endAsUsageError(import.meta.url, {
    what: '--only cannot have this value',
    expected: `words of ${cases.map(wordOf).join(', ')}`,
    found: unknown === '' ? 'nothing' : unknown,
  });

/** The name of a case without its commas, since commas separate the words of an option. */
function wordOf({ name }: BenchCase): string {
  return name.replaceAll(',', '');
}

function hasWord(benchCase: BenchCase, word: string): boolean {
  return wordOf(benchCase).includes(word);
}

async function runCase(benchCase: BenchCase): Promise<CaseResult> {
  const { rows, settings, segmentsPerColumn, truth } = await benchCase.open();
  const comparison = await compareRules(rows, settings, {
    onTuned: ({ rule, priorLogloss }) => {
      process.stderr.write(`   ${rule}: prior logloss ${priorLogloss.toFixed(5)}\n`);
    },
  });
  const judged = rows.clicks.subarray(settings.priorRowCount);
  return {
    name: benchCase.name,
    about: benchCase.about,
    header: benchHeader(),
    rowCount: rowCountOf(rows),
    featureCount: rows.featureCount,
    clickCount: rows.clicks.reduce((sum, click) => sum + click, 0),
    judgedClickCount: judged.reduce((sum, click) => sum + click, 0),
    segmentsPerColumn,
    truth,
    comparison,
  };
}

const recordPath = join(RESULTS, 'learned-rule.json');
// This program wrote the file itself.
const readCases = (path: string): unknown => JSON.parse(readFileSync(path, 'utf8'));
const recorded = existsSync(recordPath) ? (readCases(recordPath) as CaseResult[]) : [];
mkdirSync(options.folder, { recursive: true });
const results: CaseResult[] = [];
for (const benchCase of cases) {
  const { name } = benchCase;
  const key = createHash('sha256').update(`${name} ${options.days}`).digest('hex');
  const path = join(options.folder, `${key.slice(0, 16)}.json`);
  const isAsked = only.some((word) => hasWord(benchCase, word));
  if (isAsked && !existsSync(path) && benchCase.isThere) {
    process.stderr.write(`== ${name}\n`);
    const { comparison, ...result } = await runCase(benchCase);
    const record = { ...result, comparison: comparisonRecord(comparison) };
    writeFileSync(path, `${JSON.stringify(record)}\n`);
  }
  if (isAsked && existsSync(path)) results.push(readCases(path) as CaseResult);
  else {
    const earlier = recorded.find((each) => each.name === name);
    if (isAsked) process.stderr.write(`skipped ${name}: its data is missing\n`);
    if (earlier !== undefined) results.push(earlier);
  }
}
const table = resultsTable(results);
writeFileSync(join(RESULTS, 'learned-rule.md'), table);
writeFileSync(recordPath, `${JSON.stringify(results, null, 1)}\n`);
process.stdout.write(table);
