/** From a log to a served model, as a document: a verdict in three sentences, a table, and the commands that serve it. */

import { at } from '../../shared/base/arrays.js';
import type { ComparisonReport } from '../scoring/compare-runs.js';
import type { ArmResult } from '../scoring/evaluation-report.js';
import { comparedPairs, wordsOf, type LabelWords } from './arm-sections.js';
import { comparisonDocument } from './comparison-document.js';
import {
  code,
  columnsOf,
  fieldsBlock,
  leftColumn,
  section,
  tableBlock,
  textBlock,
  type Block,
  type Document,
  type Table,
} from './document/document.js';
import { formatNumber, formatSigned } from './document/format.js';

/** A model as the table names it. */
interface JudgedModel {
  readonly name: string;
  readonly words: string;
}

/** A model that the served one is compared with. */
export interface Baseline {
  /** As in `a plain model for all`. */
  readonly words: string;
  /** The served model next to the baseline, which comes first; null if the baseline is the served model. */
  readonly comparison: ComparisonReport | null;
}

export interface RankedExample {
  /** The best first. */
  readonly ranked: readonly { readonly name: string; readonly expected: number | null }[];
  /** A command that asks a server that runs. */
  readonly ask: string;
}

export interface StartedModel {
  readonly run: string;
  /** The config with the data, and the one of the model. */
  readonly config: string;
  readonly bestConfig: string;
  readonly bundles: string;
  readonly page: string;
  /** The rows of the table; differences are from the first. */
  readonly comparison: ComparisonReport;
  /** In the order of the runs of the comparison. */
  readonly models: readonly JudgedModel[];
  /** The place of the served model, and of the constant, among them. */
  readonly servedIndex: number;
  readonly constantIndex: number;
  readonly baselines: readonly Baseline[];
  readonly serve: string;
  /** Null if the server refused the example. */
  readonly example: RankedExample | null;
}

const TABLE_ROWS_MAX = 6;

export function startDocument(started: StartedModel): Document {
  const { run, comparison, example, page, config, bestConfig, bundles, serve } = started;
  const words = wordsOf(comparison);
  return {
    title: `From log to model: ${run}`,
    data: started,
    blocks: [
      ...verdictSentences(started, words).map((sentence) => textBlock(sentence)),
      ...constantWarnings(started, words).map((sentence) => textBlock(sentence, 'worse')),
      tableBlock('Models', modelsTable(started, words)),
      ...(example === null ? [] : [exampleBlock(example, words)]),
      fieldsBlock([
        ['report', code(page)],
        ['config', [code(config), ' describes the data, ', code(bestConfig), ' the model']],
        ['bundle', code(bundles)],
      ]),
      section('', 'To serve the model, and to ask it', [
        fieldsBlock([
          ['', code(serve)],
          ['', example === null ? null : code(example.ask)],
        ]),
      ]),
      section('All models', '', comparisonDocument(comparison).blocks, 'page'),
    ],
  };
}

/** The results of all test adgroups, in the order of the models. */
function resultsOf({ comparison: { runs, slices } }: StartedModel): ArmResult[] {
  const { arms } = at(slices, 0);
  return runs.map(({ label }) => {
    const found = arms.find(({ arm }) => arm === label);
    if (found === undefined) throw new Error(`the comparison has no result of ${label}`);
    return found;
  });
}

function verdictSentences(started: StartedModel, words: LabelWords): string[] {
  const { models, servedIndex, baselines, comparison } = started;
  const { name, words: described } = at(models, servedIndex);
  const count = at(comparison.slices, 0).adgroupCount;
  const sentences = baselines.map(({ words: baseline, comparison: pair }, place) => {
    const subject = place === 0 ? `${name}, ${described},` : 'It';
    return pair === null
      ? `${subject} is ${baseline} itself.`
      : `${subject} ${comparedWith(baseline, pair, words)}`;
  });
  return [`On ${count} held-out adgroups: ${sentences.join(' ')}`];
}

function comparedWith(baseline: string, pair: ComparisonReport, { loss }: LabelWords): string {
  const slice = at(pair.slices, 0);
  const [before, served] = [at(slice.arms, 0), at(slice.arms, 1)].map(({ metrics }) =>
    formatNumber(metrics.logloss, 4),
  );
  const { difference, verdict } = at(comparedPairs(slice), 0);
  const { value, low, high } = difference.perImpression;
  const said = verdict === 'undecided' ? 'cannot be told apart from' : `is ${verdict} than`;
  const interval = `${formatSigned(value)} [${formatSigned(low)}, ${formatSigned(high)}]`;
  return `${said} ${baseline}: ${loss} ${served ?? ''} instead of ${before ?? ''}, ${interval}.`;
}

function constantWarnings(started: StartedModel, { loss }: LabelWords): string[] {
  const { models, constantIndex } = started;
  const losses = resultsOf(started).map(({ metrics }) => metrics.logloss);
  const constant = at(losses, constantIndex);
  const worse = models.filter((_, place) => at(losses, place) > constant);
  if (worse.length === 0) return [];
  const names = worse.map(({ name }) => name).join(', ');
  return [
    `warning: worse than a constant, whose ${loss} is ${formatNumber(constant, 4)}: ${names}. ` +
      'The features may say little about the label, or later rows may differ from earlier ones.',
  ];
}

/** The best first, without the constant. */
function modelsTable(started: StartedModel, { loss }: LabelWords): Table {
  const { models, servedIndex, constantIndex } = started;
  const isOfValues = loss !== 'logloss';
  const rows = resultsOf(started).flatMap(({ metrics, differences }, place) => {
    if (place === constantIndex) return [];
    const { name, words } = at(models, place);
    const { value, low, high } = differences[0]?.perImpression ?? {};
    const interval =
      value === undefined || low === undefined || high === undefined
        ? ''
        : `${formatSigned(value)} [${formatSigned(low)}, ${formatSigned(high)}]`;
    const quality = isOfValues ? (metrics.values?.rSquared ?? null) : metrics.auc;
    const cells = [
      ...[name, words, metrics.logloss.toFixed(4), interval],
      ...[formatNumber(quality, 4), place === servedIndex ? 'served' : ''],
    ];
    return [{ order: metrics.logloss, isServed: place === servedIndex, cells }];
  });
  return {
    columns: [
      ...columnsOf('<trial', '<model', loss),
      { title: `difference from ${at(models, 0).name}` },
      { title: isOfValues ? 'R2' : 'AUC' },
      leftColumn(''),
    ],
    rows: rows
      .sort((a, b) => a.order - b.order)
      .slice(0, TABLE_ROWS_MAX)
      .map(({ cells }) => cells),
  };
}

function exampleBlock({ ranked }: RankedExample, { rate }: LabelWords): Block {
  return section('', `Three adgroups for one row of the log, by their predicted ${rate}`, [
    fieldsBlock(ranked.map(({ name, expected }) => [formatNumber(expected, 3), name])),
  ]);
}
