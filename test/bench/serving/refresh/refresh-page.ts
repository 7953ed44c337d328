/** The page of the refresh bench. */

import { grouped, markdownTable, type BenchHeader } from '../../bench-header.js';
import type { CutLogFigures } from './refresh-log.js';

/** The bars: of a delta of one adgroup in a hundred, and of a refresh after one new row in a hundred. */
const DELTA_PART_MAX = 0.03;
const REFRESH_PART_MAX = 0.1;

export interface TimedCommand {
  readonly verb: string;
  readonly ms: number;
}

interface Refreshed {
  readonly changedAdgroupCount: number;
  readonly newAdgroupCount: number;
  /** Bytes of files that the bundle before does not have. */
  readonly newByteCount: number;
  readonly append: { readonly logRowCount: number };
  readonly appendMs: number;
  readonly exportMs: number;
  /** The whole command. */
  readonly ms: number;
}

export interface RefreshFigures {
  readonly header: BenchHeader;
  readonly loadAfter: number;
  readonly log: CutLogFigures;
  readonly whole: readonly TimedCommand[];
  readonly exported: { readonly byteCount: number; readonly adgroupCount: number };
  /** After new rows of one adgroup in a hundred, and after one new row in a hundred. */
  readonly few: Refreshed;
  readonly later: Refreshed;
  /** Null if it was left out. */
  readonly further: {
    readonly outerSteps: number;
    readonly appendMs: number;
    readonly trainMs: number;
    readonly exportMs: number;
    readonly ms: number;
  } | null;
}

export function refreshPage(figures: RefreshFigures): string {
  const { header, loadAfter, log, whole, exported, few, later, further } = figures;
  const { commit, date, machine, loadBefore } = header;
  const fullExportMs = whole.find(({ verb }) => verb === 'export')?.ms ?? 0;
  const wholeMs = whole
    .filter(({ verb }) => verb !== 'evaluate')
    .reduce((sum, { ms }) => sum + ms, 0);
  const changedShare = (of: Refreshed): string =>
    percent((of.changedAdgroupCount + of.newAdgroupCount) / exported.adgroupCount);
  const verdict = (part: number, max: number): string =>
    `${percent(part)} (bar: ${percent(max)}, ${part <= max ? 'holds' : 'does not hold'})`;
  const row = (name: string, of: Refreshed): (string | number)[] => [
    ...[name, grouped(of.append.logRowCount), changedShare(of), megabytes(of.newByteCount)],
    ...[seconds(of.appendMs), seconds(of.exportMs), seconds(of.ms)],
  ];
  return `${[
    '# Refresh',
    `\`npm run bench:refresh\`, commit ${commit}, ${date}, ${machine}, load ${loadBefore} before and ${loadAfter} after.`,
    `${grouped(log.earlierRowCount)} rows of a synthetic world, ${grouped(exported.adgroupCount)} adgroups in the store, one process that computes. ` +
      `${grouped(log.laterRowCount)} later rows, one in a hundred, of ${grouped(log.laterAdgroupCount)} adgroups.`,
    markdownTable(
      ['command', 'seconds'],
      whole.map(({ verb, ms }) => [`\`qianmo ${verb}\``, seconds(ms)]),
    ).join('\n'),
    `The full bundle has ${megabytes(exported.byteCount)}.`,
    markdownTable(
      ['`qianmo refresh` after', 'rows', 'adgroups', 'bytes', 'append, s', 'export, s', 'all, s'],
      [row('one adgroup in a hundred', few), row('one row in a hundred', later)],
    ).join('\n'),
    [
      `- Delta of one adgroup in a hundred, bytes of a full bundle: ${verdict(few.newByteCount / exported.byteCount, DELTA_PART_MAX)}.`,
      `- The same, time of a full export: ${verdict(few.exportMs / fullExportMs, DELTA_PART_MAX)}.`,
      `- Refresh after one new row in a hundred, time of prepare, train and export: ${verdict(later.ms / wholeMs, REFRESH_PART_MAX)}.`,
    ].join('\n'),
    'The rows of the self-check, 1,000 for every bundle, are written again with a delta where it changes one of them.',
    ...(further === null
      ? []
      : [
          `With ${further.outerSteps} outer steps of training and all adgroups adapted again, the second refresh takes ${seconds(further.ms)} s: ` +
            `${seconds(further.appendMs)} to append, ${seconds(further.trainMs)} to train, ${seconds(further.exportMs)} to export.`,
        ]),
  ].join('\n\n')}\n`;
}

function percent(part: number): string {
  return `${(100 * part).toFixed(1)} %`;
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(1);
}

function megabytes(byteCount: number): string {
  return `${(byteCount / 1e6).toFixed(2)} MB`;
}
