/** Proposes the section `data` of a config from the first rows of a log: task, label, time and features, each with a reason. */

import { QianmoError, errorOf } from '../../shared/base/errors.js';
import { FeatureSchema, type FeatureConfig } from '../../shared/config/data-config.js';
import type { DuckSession } from '../logs/duckdb-session.js';
import { proposeFeature, type KnownLabel } from './propose-feature.js';
import { SAMPLED_ROWS_MAX, type SampledColumn } from './sampled-column.js';
import {
  readNames,
  readNumbers,
  readTimes,
  readTruth,
  truthOf,
  type TimeReading,
} from './text-forms.js';

/** A value of the config and why it was chosen. */
interface Chosen<Value> {
  readonly value: Value;
  readonly reason: string | null;
}

type Computed = string | { readonly expression: string };
type ProposedLabel =
  | { readonly column: string }
  | { readonly expression: string }
  | { readonly clicks: Computed; readonly impressions: Computed }
  | { readonly value: string };

export interface ProposedData {
  readonly task: Chosen<Computed>;
  readonly label: Chosen<ProposedLabel>;
  readonly time: Chosen<Computed> | null;
  readonly features: readonly Chosen<FeatureConfig>[];
  readonly leftOut: readonly { readonly column: string; readonly reason: string }[];
  /** A column with a name for each adgroup, which is no feature. */
  readonly nameColumn: string | null;
  /** True if most rows are of adgroups with enough rows to demand some on both sides. */
  readonly hasLargeTasks: boolean;
}

type DecidedField = 'task' | 'label' | 'time';

/** Columns, or SQL, that take the place of a proposal. */
interface Overrides extends Readonly<Partial<Record<DecidedField, string | undefined>>> {
  /** True if a choice among several likely columns is an error, too. Otherwise the first one is taken. */
  readonly mustBeCertain?: boolean;
}

/** A question about a column that the log leaves open, with the answers to choose from. */
export interface Question {
  readonly what: string;
  /** Columns with some of their values, the most likely one first. */
  readonly choices: readonly { readonly column: string; readonly values: readonly string[] }[];
}

/** Returns a column or SQL; null if nobody answers. */
export type Ask = (question: Question, signal: AbortSignal) => Promise<string | null>;

const SHOWN_VALUES_MAX = 3;
const CHOICES_MAX = 30;

/** The task, label or time cannot be told from the log. The report names the option that says it. */
export class UndecidedColumn extends QianmoError {
  readonly question: Question;

  constructor(
    readonly field: DecidedField,
    report: { what: string; expected: string; found: string; cure: string },
    columns: Iterable<SampledColumn>,
  ) {
    super({ kind: 'usage', ...report });
    const choices = [...columns].slice(0, CHOICES_MAX).map((column) => ({
      column: column.name,
      values: [...new Set(textsOf(column))].slice(0, SHOWN_VALUES_MAX),
    }));
    this.question = { what: report.what, choices };
  }
}

/** Names of adgroups, the most likely one first. */
const TASK_NAMES = [
  /\bad ?(group|set)s?\b/,
  /\bcampaigns?\b/,
  /\b(creative|ad|banner) ?(id|name)\b|^(creative|ad|banner)$/,
  /\badvertiser\b/,
  /\b(item|product|movie|film|book|article|sku|offer|listing|song)s?\b/,
];
const LABEL_NAMES = [
  /^(is )?click(s|ed)?( count)?$/,
  /^label$|^target$|^y$/,
  /^(is )?(conver(ted|sions?)|purchased?|installed?)$/,
  /^(ratings?|stars|score)$/,
];
const IMPRESSION_NAMES = /^(impressions?|imps?|views|shows)( count)?$/;
const TIME_NAMES = /\b(time|timestamp|date|datetime|ts|shown at|created at|day|ymd)\b/;
/** Rates of the label itself, which are known only after the impression. */
const RATE_NAMES = /^(ctr|cvr|cpc|cpa|click (through )?rate|conversion rate)$/;
const PERSON_NAMES = /\b(user|visitor|customer|session|device|ip)\b/;

/** Lower-case words of a column's name: `adGroup_ID` is `ad group id`. */
function wordsOf(name: string): string {
  return name
    .replace(/([a-z])([A-Z])/g, '$1 $2')
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, ' ')
    .trim();
}

const textsOf = ({ values }: SampledColumn): string[] => values.filter((value) => value !== null);

/** @throws UndecidedColumn, or QianmoError of kind `usage` if no column can be a feature. */
export async function proposeData(
  columns: readonly SampledColumn[],
  asked: Overrides,
  session: DuckSession,
): Promise<ProposedData> {
  const label = proposeLabel(columns, asked);
  const usedByLabel = new Set(label.columns);
  const task = proposeTask(
    columns.filter(({ name }) => !usedByLabel.has(name)),
    asked,
  );
  const time = proposeTime(
    columns.filter(({ name }) => !usedByLabel.has(name) && name !== task.column?.name),
    asked,
  );
  const used = new Set([...usedByLabel, task.column?.name, time?.column]);
  const leftOut: { column: string; reason: string }[] = [];
  const features: Chosen<FeatureConfig>[] = [];
  const isName = (column: SampledColumn): boolean =>
    task.column !== null && isAnotherName(column, task.column);
  let nameColumn: string | null = null;
  for (const column of columns) {
    if (used.has(column.name)) continue;
    const found = RATE_NAMES.test(wordsOf(column.name))
      ? { leftOut: 'a rate of the label, known only after the impression' }
      : isName(column)
        ? { leftOut: 'another name of the adgroup, which says nothing of a new one' }
        : await proposeFeature(column, label, session);
    if (isName(column)) nameColumn ??= column.name;
    if ('leftOut' in found) leftOut.push({ column: column.name, reason: found.leftOut });
    else features.push(found);
  }
  const hour = time?.reading?.hour;
  if (typeof hour === 'string' && !features.some(({ value }) => value.name === 'hour'))
    features.push({
      value: FeatureSchema.parse({ name: 'hour', kind: 'category', expression: hour }),
      reason: 'of the time',
    });
  if (features.length === 0)
    throw errorOf('usage', 'no column is left to be a feature', {
      expected: 'columns that are known before the impression',
      found: leftOut.map(({ column, reason }) => `${column}: ${reason}`).join('; '),
      cure: 'add columns to the log, or name another --task or --label',
    });
  return {
    ...{ task: task.chosen, label: label.chosen, features, leftOut, nameColumn },
    time: time === null ? null : time.chosen,
    hasLargeTasks: task.column !== null && rowsPerValue(task.column) >= 20,
  };
}

function requireOne(field: DecidedField, what: string, columns: readonly SampledColumn[]): void {
  if (columns.length < 2) return;
  const found = `columns that could: ${namesOf(columns)}`;
  const report = { what, expected: 'one such column', found, cure: `name it: --${field} COLUMN` };
  throw new UndecidedColumn(field, report, columns);
}

function columnNamed(columns: readonly SampledColumn[], name: string): SampledColumn | null {
  return (
    columns.find((column) => column.name === name) ??
    columns.find((column) => wordsOf(column.name) === wordsOf(name)) ??
    null
  );
}

function namesOf(columns: readonly SampledColumn[]): string {
  const names = columns.map(({ name }) => name);
  return `${names.slice(0, 30).join(', ')}${names.length > 30 ? ', ...' : ''}`;
}

function isSql(text: string): boolean {
  return /[()<>='"]|\s(and|or|in|is)\s/i.test(text);
}

interface LabelChoice extends KnownLabel {
  readonly chosen: Chosen<ProposedLabel>;
  readonly columns: readonly string[];
}

const WHICH_LABEL = 'which column is the label?';

function proposeLabel(
  columns: readonly SampledColumn[],
  { label: asked, mustBeCertain = false }: Overrides,
): LabelChoice {
  if (asked !== undefined) {
    const column = columnNamed(columns, asked);
    if (column !== null) {
      const choice = labelOf(column, columns, true);
      if (choice !== null) return choice;
      const report = {
        what: `the column "${column.name}" cannot be the label as it is`,
        expected: 'a column of 0 and 1, of yes and no, or of numbers',
        found: `"${[...new Set(textsOf(column))].slice(0, 5).join('", "')}"`,
        cure: `write a condition: --label "${column.name} = '...'"`,
      };
      throw new UndecidedColumn('label', report, fewestValuesFirst(columns));
    }
    if (isSql(asked))
      return {
        chosen: { value: { expression: asked }, reason: 'as --label says' },
        columns: columns.filter(({ name }) => asked.includes(name)).map(({ name }) => name),
        targets: [],
        loss: 'binary',
      };
    throw noColumn('label', asked, columns);
  }
  for (const pattern of LABEL_NAMES) {
    const likely = columns
      .filter(({ name }) => pattern.test(wordsOf(name)))
      .flatMap((column) => {
        const choice = labelOf(column, columns, false);
        return choice === null ? [] : [{ column, choice }];
      });
    if (mustBeCertain)
      requireOne(
        'label',
        WHICH_LABEL,
        likely.map(({ column }) => column),
      );
    const [found] = likely;
    if (found !== undefined) return found.choice;
  }
  const binary = columns.filter((column) => readTruth(column.name, textsOf(column)) !== null);
  const alike = columns.find(
    (column) =>
      LABEL_NAMES.some((pattern) => pattern.test(wordsOf(column.name))) &&
      new Set(textsOf(column)).size === 1,
  );
  const report = {
    what: WHICH_LABEL,
    expected: 'a column that says whether an impression was clicked, or a condition',
    found:
      alike !== undefined
        ? `"${alike.name}", which is "${textsOf(alike)[0] ?? ''}" in all rows`
        : binary.length > 0
          ? `columns of two values: ${namesOf(binary)}`
          : `columns: ${namesOf(columns)}`,
    cure: 'name it: --label COLUMN, or --label "rating >= 4"',
  };
  throw new UndecidedColumn('label', report, new Set([...binary, ...fewestValuesFirst(columns)]));
}

function fewestValuesFirst(columns: readonly SampledColumn[]): SampledColumn[] {
  const valueCount = new Map(columns.map((column) => [column, new Set(textsOf(column)).size]));
  return [...columns].sort((a, b) => (valueCount.get(a) ?? 0) - (valueCount.get(b) ?? 0));
}

function noColumn(
  field: DecidedField,
  asked: string,
  columns: readonly SampledColumn[],
): UndecidedColumn {
  const report = {
    what: `the log has no column "${asked}"`,
    expected: `one of ${namesOf(columns)}`,
    found: `--${field} ${asked}`,
    cure: `correct --${field}`,
  };
  return new UndecidedColumn(field, report, columns);
}

const LEVELS_MAX = 11;
/** Ratings from this share of the highest one count as clicks. */
const LIKED_SHARE = 0.8;

function labelOf(
  column: SampledColumn,
  columns: readonly SampledColumn[],
  isAsked: boolean,
): LabelChoice | null {
  const { name } = column;
  const texts = textsOf(column);
  const counts = countsLabelOf(column, columns);
  if (counts !== null) return counts;
  const truth = readTruth(name, texts);
  if (truth !== null) {
    const { expression, reason } = truth;
    return {
      chosen: { value: expression === null ? { column: name } : { expression }, reason },
      columns: [name],
      targets: column.values.map((text) => (text === null ? null : truthOf(text))),
      loss: 'binary',
    };
  }
  const numbers = readNumbers(name, texts);
  if (numbers === null || numbers.expression !== null) return null;
  const values = column.values.map((text) => (text === null ? null : numbers.valueOf(text)));
  const levels = [...new Set(values.filter((value) => value !== null))].sort((a, b) => a - b);
  const [highest = 0] = levels.slice(-1);
  if (levels.length > 2 && levels.length <= LEVELS_MAX && highest > 0) {
    const from = levels.find((level) => level >= LIKED_SHARE * highest) ?? highest;
    const sql = `"${name.replaceAll('"', '""')}" >= ${from}`;
    return {
      chosen: { value: { expression: sql }, reason: `ratings up to ${highest}` },
      columns: [name],
      targets: values.map((value) => (value === null ? null : Number(value >= from))),
      loss: 'binary',
    };
  }
  if (!isAsked || levels.length < 2) return null;
  return {
    chosen: { value: { value: name }, reason: 'a value, whose squared error is the loss' },
    columns: [name],
    targets: values,
    loss: 'squared',
  };
}

/** Clicks and impressions of aggregated rows. */
function countsLabelOf(
  clicks: SampledColumn,
  columns: readonly SampledColumn[],
): LabelChoice | null {
  const impressions = columns.find(({ name }) => IMPRESSION_NAMES.test(wordsOf(name)));
  if (impressions === undefined || impressions === clicks) return null;
  const read = [clicks, impressions].map(({ name, values }) =>
    readNumbers(
      name,
      values.filter((value) => value !== null),
    ),
  );
  const [ofClicks = null, ofImpressions = null] = read;
  if (ofClicks === null || ofImpressions === null) return null;
  const numberAt = (column: SampledColumn, row: number, of: typeof ofClicks): number | null => {
    const text = column.values[row] ?? null;
    return text === null ? null : of.valueOf(text);
  };
  const targets = clicks.values.map((_, row) => {
    const [c, n] = [numberAt(clicks, row, ofClicks), numberAt(impressions, row, ofImpressions)];
    return c === null || n === null || n <= 0 ? null : Math.min(1, c / n);
  });
  const isBeyondOne = impressions.values.some(
    (_, row) => (numberAt(impressions, row, ofImpressions) ?? 0) > 1,
  );
  if (!isBeyondOne) return null;
  const computed = (name: string, expression: string | null): Computed =>
    expression === null ? name : { expression };
  const reasons = [ofClicks.reason, ofImpressions.reason].filter((reason) => reason !== null);
  return {
    chosen: {
      value: {
        clicks: computed(clicks.name, ofClicks.expression),
        impressions: computed(impressions.name, ofImpressions.expression),
      },
      reason: ['counts of aggregated rows', ...new Set(reasons)].join('; '),
    },
    columns: [clicks.name, impressions.name],
    targets,
    loss: 'binary',
  };
}

interface TaskChoice {
  readonly chosen: Chosen<Computed>;
  readonly column: SampledColumn | null;
}

function rowsPerValue(column: SampledColumn): number {
  const texts = textsOf(column);
  return texts.length / Math.max(1, new Set(texts).size);
}

const TASK_ROWS_MIN = 3;
const TASKS_MIN = 10;

function isTaskLike(column: SampledColumn): boolean {
  return rowsPerValue(column) >= TASK_ROWS_MIN && new Set(textsOf(column)).size >= TASKS_MIN;
}

const WHICH_TASK = 'which column names the adgroup?';

function proposeTask(
  columns: readonly SampledColumn[],
  { task: asked, mustBeCertain = false }: Overrides,
): TaskChoice {
  if (asked !== undefined) {
    const column = columnNamed(columns, asked);
    if (column !== null) return taskOf(column);
    if (isSql(asked))
      return { chosen: { value: { expression: asked }, reason: 'as --task says' }, column: null };
    throw noColumn('task', asked, columns);
  }
  const likely = columns.filter(isTaskLike);
  for (const pattern of TASK_NAMES) {
    const named = likely.filter(({ name }) => {
      const words = wordsOf(name);
      return pattern.test(words) && !PERSON_NAMES.test(words);
    });
    if (mustBeCertain) requireOne('task', WHICH_TASK, named);
    const [found] = named;
    if (found !== undefined) return taskOf(found);
  }
  const id = likely.find(({ name }) => wordsOf(name) === 'id');
  if (id !== undefined) return taskOf(id);
  const report = {
    what: WHICH_TASK,
    expected: `a column with at least ${TASKS_MIN} values that have ${TASK_ROWS_MIN} rows or more on average`,
    found:
      likely.length > 0
        ? `columns that could: ${namesOf(likely)}`
        : `none in the first ${SAMPLED_ROWS_MAX.toLocaleString('en')} rows; columns: ${namesOf(columns)}`,
    cure: 'name it: --task COLUMN',
  };
  throw new UndecidedColumn('task', report, new Set([...likely, ...columns]));
}

/** The share of adgroups that must have a text of their own. */
const OWN_NAMES_SHARE = 0.95;

/** Whether each adgroup has one text, and nearly each another one. Numbers may differ by adgroup and still compare. */
function isAnotherName(column: SampledColumn, task: SampledColumn): boolean {
  const names = new Map<string, string>();
  for (const [row, name] of column.values.entries()) {
    const key = task.values[row] ?? null;
    if (key === null || name === null) continue;
    if ((names.get(key) ?? name) !== name) return false;
    names.set(key, name);
  }
  const ownCount = new Set(names.values()).size;
  return (
    ownCount >= OWN_NAMES_SHARE * Math.max(TASKS_MIN, new Set(textsOf(task)).size) &&
    readNumbers(column.name, textsOf(column)) === null
  );
}

function taskOf(column: SampledColumn): TaskChoice {
  const { expression, reason } = readNames(column.name, textsOf(column));
  return { chosen: { value: expression === null ? column.name : { expression }, reason }, column };
}

interface TimeChoice {
  readonly chosen: Chosen<Computed>;
  readonly column: string | null;
  readonly reading: TimeReading | null;
}

function proposeTime(
  columns: readonly SampledColumn[],
  { time: asked, mustBeCertain = false }: Overrides,
): TimeChoice | null {
  if (asked !== undefined) {
    const column = columnNamed(columns, asked);
    if (column !== null) return timeOf(column) ?? plainTime(column);
    if (isSql(asked))
      return {
        chosen: { value: { expression: asked }, reason: 'as --time says' },
        ...{ column: null, reading: null },
      };
    throw noColumn('time', asked, columns);
  }
  const read = columns.flatMap((column) => timeOf(column) ?? []);
  const named = read.filter(({ column }) => TIME_NAMES.test(wordsOf(column ?? '')));
  const likely = named.length > 0 ? named : read.filter(({ reading }) => reading?.hour !== null);
  if (mustBeCertain)
    requireOne(
      'time',
      'which column orders the rows in time?',
      columns.filter(({ name }) => likely.some(({ column }) => column === name)),
    );
  return likely[0] ?? null;
}

function timeOf(column: SampledColumn): TimeChoice | null {
  const reading = readTimes(column.name, textsOf(column), column.type);
  if (reading === null) return null;
  const { expression, reason } = reading;
  const value = expression === null ? column.name : { expression };
  return { chosen: { value, reason }, column: column.name, reading };
}

/** Numbers order rows, whatever they count. */
function plainTime(column: SampledColumn): TimeChoice {
  if (readNumbers(column.name, textsOf(column))?.expression === null)
    return {
      chosen: { value: column.name, reason: 'numbers that grow with time' },
      ...{ column: column.name, reading: null },
    };
  const report = {
    what: `the times of "${column.name}" have a form that is not known`,
    expected: 'timestamps, seconds or milliseconds since 1970, or numbers',
    found: `"${textsOf(column).slice(0, 2).join('", "')}"`,
    cure: `say how they are written: --time "strptime(${column.name}, '%d/%m/%Y %H:%M')"`,
  };
  throw new UndecidedColumn('time', report, [column]);
}
