/** The page of the refresh bench. */

import { at } from '../../../../shared/base/arrays.js';
import { grouped, markdownTable, type BenchHeader } from '../../bench-header.js';
import type { CutLogFigures } from './refresh-log.js';

/** The bars: of a delta of one adgroup in a hundred, and of a refresh after one new row in a hundred. */
const DELTA_PART_MAX = 0.03;
const REFRESH_PART_MAX = 0.1;
const MILLION = 1_000_000;

/** A command and what it took. */
export interface Metered {
  readonly verb: string;
  /** The time that went by. */
  readonly seconds: number;
  /** The time of the processor, in all processes of the command. */
  readonly processorSeconds: number;
}

interface Refreshed {
  readonly changedAdgroupCount: number;
  readonly newAdgroupCount: number;
  /** Bytes of files that the bundle before does not have. */
  readonly newByteCount: number;
  readonly append: { readonly logRowCount: number };
  readonly refresh: Metered;
  /** The export of the delta alone. */
  readonly delta: Metered;
}

/** A store of one size. */
export interface SizeFigures {
  readonly log: CutLogFigures;
  /** Prepare, train, evaluate and export. */
  readonly whole: readonly Metered[];
  readonly exported: { readonly byteCount: number; readonly adgroupCount: number };
  /** After new rows of one adgroup in a hundred, and after one new row in a hundred. */
  readonly few: Refreshed;
  readonly later: Refreshed;
}

interface RefreshFigures {
  readonly header: BenchHeader;
  readonly loadAfter: number;
  readonly outerSteps: number;
  readonly sizes: readonly SizeFigures[];
}

export function refreshPage({ header, loadAfter, outerSteps, sizes }: RefreshFigures): string {
  const { commit, date, machine, loadBefore } = header;
  return `${[
    '# Refresh',
    `\`npm run bench:refresh\`, commit ${commit}, ${date}, ${machine}, load ${loadBefore} before and ${loadAfter} after.`,
    `A synthetic world, ${outerSteps} outer steps, one process that computes. Seconds are those of the processor in all processes of a command, start included; ` +
      'in brackets the seconds that went by, which others on the machine have a part in.',
    commandTable(sizes).join('\n'),
    deltaTable(sizes).join('\n'),
    [...sizes.flatMap(verdictsOf), ...lineOf(sizes)].join('\n'),
  ].join('\n\n')}\n`;
}

function commandTable(sizes: readonly SizeFigures[]): string[] {
  const verbs = at(sizes, 0).whole.map(({ verb }) => verb);
  return markdownTable(
    ['adgroups', 'rows', ...verbs.map((verb) => `\`${verb}\``), 'bundle, MB'],
    sizes.map(({ log, whole, exported }) => [
      ...[grouped(exported.adgroupCount), grouped(log.earlierRowCount)],
      ...whole.map(timeOf),
      (exported.byteCount / 1e6).toFixed(2),
    ]),
  );
}

function deltaTable(sizes: readonly SizeFigures[]): string[] {
  return markdownTable(
    [
      ...['adgroups', 'new rows of', 'rows', 'changed adgroups', 'delta, MB'],
      ...['`export --only-changed`', '`refresh`'],
    ],
    sizes.flatMap(({ exported, few, later }) =>
      [
        { name: 'one adgroup in a hundred', found: few },
        { name: 'one row in a hundred', found: later },
      ].map(({ name, found }) => [
        ...[grouped(exported.adgroupCount), name, grouped(found.append.logRowCount)],
        grouped(found.changedAdgroupCount + found.newAdgroupCount),
        ...[(found.newByteCount / 1e6).toFixed(3), timeOf(found.delta), timeOf(found.refresh)],
      ]),
    ),
  );
}

function verdictsOf({ whole, exported, few, later }: SizeFigures): string[] {
  const bytes = few.newByteCount / exported.byteCount;
  const time = few.delta.processorSeconds / secondsOf(whole, 'export');
  const everything = ['prepare', 'train', 'export'].reduce(
    (sum, verb) => sum + secondsOf(whole, verb),
    0,
  );
  const refresh = later.refresh.processorSeconds / everything;
  const of = `${grouped(exported.adgroupCount)} adgroups`;
  return [
    `- ${of}: the delta of one in a hundred has ${percent(bytes)} of the bytes of a full bundle (${verdict(bytes, DELTA_PART_MAX)}) and takes ${percent(time)} of its time (${verdict(time, DELTA_PART_MAX)}).`,
    `- ${of}: a refresh after one new row in a hundred takes ${percent(refresh)} of the time of prepare, train and export (${verdict(refresh, REFRESH_PART_MAX)}).`,
  ];
}

/** Fixed cost and cost by adgroup, from the smallest and the largest store. */
function lineOf(sizes: readonly SizeFigures[]): string[] {
  const [small, large] = [at(sizes, 0), at(sizes, sizes.length - 1)];
  if (small === large) return [];
  const lineThrough = (secondsIn: (of: SizeFigures) => number) => {
    const [first, last] = [small.exported.adgroupCount, large.exported.adgroupCount];
    const each = (secondsIn(large) - secondsIn(small)) / (last - first);
    return { each, fixed: secondsIn(small) - each * first };
  };
  const full = lineThrough(({ whole }) => secondsOf(whole, 'export'));
  const delta = lineThrough(({ few }) => few.delta.processorSeconds);
  const at1M = (delta.fixed + delta.each * MILLION) / (full.fixed + full.each * MILLION);
  const gain = DELTA_PART_MAX * full.each - delta.each;
  const from = (delta.fixed - DELTA_PART_MAX * full.fixed) / gain;
  return [
    `- The line through the smallest and the largest store: a full export takes ${full.fixed.toFixed(1)} s and ${(1000 * full.each).toFixed(3)} ms an adgroup of the store, ` +
      `the delta ${delta.fixed.toFixed(1)} s and ${(1000 * delta.each).toFixed(4)} ms. By it the delta takes ${percent(at1M)} of the time at a million adgroups, ` +
      (gain > 0
        ? `and 3 % from ${grouped(Math.ceil(from / 1000) * 1000)} adgroups on.`
        : 'and never as little as 3 %.'),
  ];
}

function secondsOf(commands: readonly Metered[], wanted: string): number {
  const found = commands.find(({ verb }) => verb === wanted);
  if (found === undefined) throw new Error(`${wanted} was not measured`);
  return found.processorSeconds;
}

function timeOf({ processorSeconds, seconds }: Metered): string {
  return `${processorSeconds.toFixed(1)} (${seconds.toFixed(0)})`;
}

function verdict(part: number, max: number): string {
  return `bar ${percent(max)}, ${part <= max ? 'holds' : 'does not hold'}`;
}

function percent(part: number): string {
  return `${(100 * part).toFixed(1)} %`;
}
