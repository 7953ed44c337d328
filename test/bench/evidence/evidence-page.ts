/** The page of learning curves. Sentences are true for any figures: verdicts are computed. */

import { drawChart } from '../../../coordinator/reports/document/charts.js';
import type { Chart } from '../../../coordinator/reports/document/document.js';
import { at } from '../../../shared/base/arrays.js';
import { grouped, markdownTable } from '../bench-header.js';
import {
  curvesBySet,
  differenceOf,
  gapClosed,
  lossOfArm,
  lossTaken,
  meanOver,
  type SeedMean,
  type SetCurves,
  verdictOf,
} from './evidence-curves.js';
import type { EvidenceCell, EvidenceRecord } from './evidence-record.js';
import { CEILINGS, WORLD_SIZES } from './evidence-world.js';

const COLORS: Readonly<Record<string, string>> = {
  global: '#8a8a8a',
  level: '#c2762d',
  gradient: '#8659b8',
  posterior: '#2a7fd4',
  'bayes-level': '#d9a066',
  bayes: '#4a9d5b',
};
const [PANEL_WIDTH, PANEL_HEIGHT, TITLE_HEIGHT, COLUMNS] = [560, 300, 30, 2];
const STYLE =
  '<style>svg { --ink-2: #52525b; --rule: #d4d4d8; } text { font-family: sans-serif; }' +
  '@media (prefers-color-scheme: dark) { svg { --ink-2: #a1a1aa; --rule: #3f3f46; } }</style>';

export function evidencePicture(record: EvidenceRecord): string {
  const curves = curvesBySet(record);
  const panels = curves.map((curve, place) => {
    const [x, y] = [
      (place % COLUMNS) * PANEL_WIDTH,
      TITLE_HEIGHT + Math.floor(place / COLUMNS) * (PANEL_HEIGHT + TITLE_HEIGHT),
    ];
    const drawn = drawChart(chartOf(curve)).replace(
      /^<svg/,
      `<svg x="${x}" y="${y + TITLE_HEIGHT}" width="${PANEL_WIDTH}" height="${PANEL_HEIGHT}"`,
    );
    return `${words(x + 70, y + 20, curve.set, 'var(--ink-2)')}${drawn}`;
  });
  const legend = Object.entries(COLORS).map(([arm, color], place) =>
    words(70 + place * 130, 20, `— ${arm}`, color),
  );
  const height = TITLE_HEIGHT + Math.ceil(curves.length / COLUMNS) * (PANEL_HEIGHT + TITLE_HEIGHT);
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${COLUMNS * PANEL_WIDTH} ${height}">` +
    `${STYLE}${legend.join('')}${panels.join('')}</svg>\n`
  );
}

function words(x: number, y: number, text: string, color: string): string {
  return `<text x="${x}" y="${y}" fill="${color}" font-size="15">${text}</text>`;
}

function chartOf(curve: SetCurves): Chart {
  const { kind, supportRows } = curve;
  const arms = Object.keys(COLORS).filter((arm) => kind === 'world' || !arm.startsWith('bayes'));
  return {
    look: 'lines',
    size: 'half',
    x: { title: 'support rows of the adgroup', categories: supportRows.map(String) },
    y: { title: kind === 'world' ? 'share of the gap closed, %' : 'logloss' },
    series: arms.map((arm) => ({
      name: arm,
      color: COLORS[arm] ?? '',
      points: supportRows.map((rows, x) => ({
        x,
        y:
          kind === 'world'
            ? 100 * meanOver(curve, rows, gapClosed(arm, 'global')).value
            : meanOver(curve, rows, lossOfArm(arm)).value,
      })),
    })),
  };
}

const PRODUCT_ARMS = ['global', 'shift', 'finetuned', 'level', 'gradient', 'posterior'];
/** The numbers of rows in the table of the README, and the sets that each of its columns is from. */
const SUMMARY_ROWS = [0, 1, 5, 20, 50, 200, 1_000, 5_000];
const SUMMARY: readonly (readonly [title: string, ...sets: string[]])[] = [
  ['MovieLens 1M', 'movielens-1m', 'movielens-1m-long'],
  ['Douban Book', 'dbook'],
  ['TabMo', 'tabmo'],
  ['Avazu', 'avazu-9k'],
  ['Open Bandit', 'open-bandit'],
  ['world, 3.6 %', 'world-3.6'],
  ['world, 10 %', 'world-10'],
];
/** Points of the gap by which the generator must gain over its level for half of it to be asked of the product. */
const GAIN_ASKED = 0.15;

export function evidencePage(record: EvidenceRecord): string {
  const curves = curvesBySet(record);
  return [
    '# Learning curves by number of support rows',
    '',
    'Every arm adapts on the first support rows of each test adgroup, and is judged on the same later rows. `global` is a DeepFM',
    'for all adgroups, `shift` adds one number that is fitted with a prior chosen on validation, and `finetuned` takes gradient steps. `level`',
    'and `posterior` are trained through their adaptation: the first has a bias per adgroup, the second also weights on the features of the last',
    'layer. `gradient` is first-order MAML on the same parameters. All have the inputs and training settings of `qianmo auto`, and read support',
    'rows only to adapt.',
    '',
    'The settings of `shift`, `finetuned` and `gradient` are chosen once, on validation adgroups with all of their support rows',
    `(${grouped(at(WORLD_SIZES.validation, 0).supportRows)} in worlds), and so suit fewer rows less. Worlds have ${adgroupsOf('train')} to train on,`,
    `${adgroupsOf('validation')} to choose on and ${adgroupsOf('test')} to test on.`,
    '',
    'Figures are logloss per impression, means over seeds. Intervals are of 95 %: over seeds for worlds, which are drawn anew, and with the',
    'correction of Nadeau and Bengio for real sets, whose seeds divide the same rows. A verdict says that an interval lies on one side of 0.',
    'A row of TabMo is a sum of many impressions. `evidence.json` has the figures of every seed, commit and machine.',
    '',
    '![Learning curves](evidence.svg)',
    '',
    "## What an adgroup's own rows bring",
    '',
    ...summaryLines(record),
    '',
    ...curves.map(paysSentence),
    '',
    ...curves.flatMap(setLines),
    '## Cells',
    '',
    ...markdownTable(
      [
        'set',
        'seed',
        'train / validation / test adgroups',
        'test rows',
        'click rate',
        'seconds',
        'made',
      ],
      Object.values(record.cells).map(cellRow),
    ),
    '',
  ].join('\n');
}

function adgroupsOf(split: 'train' | 'validation' | 'test'): string {
  const groups = WORLD_SIZES[split].map(
    ({ tasks, supportRows, queryRows }) =>
      `${grouped(tasks)} adgroups of ${grouped(supportRows + queryRows)} rows`,
  );
  return groups.join(' and ');
}

/** The table of the README. */
export function summaryLines(record: EvidenceRecord): string[] {
  const curves = curvesBySet(record);
  const columns = SUMMARY.flatMap(([title, ...names]) => {
    const found = curves.filter(({ set }) => names.includes(set));
    return found.length === 0 ? [] : [{ title, found }];
  });
  return [
    'Level / own model. For real sets: the part of the logloss of the global model that it takes away. For worlds: the part of the gap',
    'between the global model and the true click probabilities that it closes, which is the most that can be taken away.',
    '',
    ...markdownTable(
      ['rows of the adgroup', ...columns.map(({ title }) => title)],
      SUMMARY_ROWS.map((rows) => [
        grouped(rows),
        ...columns.map(({ found }) => {
          const curve = found.find(({ supportRows }) => supportRows.includes(rows));
          if (curve === undefined) return '';
          const figure = (arm: string): string =>
            percent(
              meanOver(
                curve,
                rows,
                curve.kind === 'world' ? gapClosed(arm, 'global') : lossTaken(arm),
              ),
            );
          return `${figure('level')} / ${figure('posterior')} %`;
        }),
      ]),
    ),
  ];
}

function paysSentence(curve: SetCurves): string {
  const { set, supportRows } = curve;
  const verdictAt = (arm: string, from: string) => (rows: number) =>
    verdictOf(meanOver(curve, rows, differenceOf(arm, from)));
  const places = (arm: string, from: string): string => {
    const better = supportRows.filter((rows) => verdictAt(arm, from)(rows) === 'better');
    const worse = supportRows.filter((rows) => verdictAt(arm, from)(rows) === 'worse');
    const told = [
      better.length === 0 ? 'better at no number of rows' : `better at ${listed(better)} rows`,
      ...(worse.length === 0 ? [] : [`worse at ${listed(worse)}`]),
    ];
    return told.join(' and ');
  };
  if (curve.cells.length < 2) return `- ${set}: one seed, and no verdict.`;
  return `- ${set}: the level is ${places('level', 'global')} than the global model; own responses (\`posterior\`) are ${places('posterior', 'level')} than the level.`;
}

function listed(rows: readonly number[]): string {
  return rows
    .map(grouped)
    .join(', ')
    .replace(/, ([^,]+)$/, ' and $1');
}

function setLines(curve: SetCurves): string[] {
  const { set, kind, cells, supportRows } = curve;
  return [
    `## ${set}`,
    '',
    `${cells.length === 1 ? 'One seed' : `${cells.length} seeds`}. ${risesSentence(curve)}`,
    '',
    ...markdownTable(
      [
        'rows',
        ...PRODUCT_ARMS,
        'level from global',
        'posterior from level',
        'posterior from gradient',
      ],
      supportRows.map((rows) => [
        grouped(rows),
        ...PRODUCT_ARMS.map((arm) => meanOver(curve, rows, lossOfArm(arm)).value.toFixed(4)),
        ...(
          [
            ['level', 'global'],
            ['posterior', 'level'],
            ['posterior', 'gradient'],
          ] as const
        ).map(([arm, from]) => differenceText(meanOver(curve, rows, differenceOf(arm, from)))),
      ]),
    ),
    '',
    ...(kind === 'world' ? worldLines(curve) : []),
  ];
}

function risesSentence(curve: SetCurves): string {
  const { supportRows } = curve;
  const lossAt = (rows: number): number => meanOver(curve, rows, lossOfArm('posterior')).value;
  const rises = supportRows.filter((rows, place) => {
    const before = supportRows[place - 1];
    return before !== undefined && lossAt(rows) > lossAt(before);
  });
  return rises.length === 0
    ? 'The loss of `posterior` falls at every step of the curve.'
    : `The loss of \`posterior\` rises at ${listed(rises)} rows.`;
}

function worldLines(curve: SetCurves): string[] {
  const { supportRows, cells } = curve;
  const arms = [...PRODUCT_ARMS.slice(1), ...CEILINGS];
  const oracle = cells.reduce((sum, cell) => sum + (cell.oracle ?? NaN), 0) / cells.length;
  return [
    `The share of the gap between \`global\` and the true probabilities (logloss ${oracle.toFixed(4)}) that each arm closes, in percent. The generator knows`,
    'the trunk and how adgroups are distributed: `bayes-level` reads an adgroup as one number, `bayes-profile` also as responses to the profile of a',
    "user, and `bayes` as responses to the tastes of each single user, which no model can know better (Laplace's approximation).",
    '',
    ...markdownTable(
      ['rows', ...arms],
      supportRows.map((rows) => [
        grouped(rows),
        ...arms.map((arm) => shareText(meanOver(curve, rows, gapClosed(arm, 'global')))),
      ]),
    ),
    '',
    'The same for the generator alone, from its own trunk without support rows:',
    '',
    ...markdownTable(
      ['rows', ...CEILINGS],
      supportRows.map((rows) => [
        grouped(rows),
        ...CEILINGS.map((arm) => shareText(meanOver(curve, rows, gapClosed(arm, 'bayes')))),
      ]),
    ),
    '',
    gainSentence(curve),
    '',
  ];
}

/** Compares what responses bring to the product with what they bring to the generator. */
function gainSentence(curve: SetCurves): string {
  const gain =
    (arm: string, level: string) =>
    (rows: number): number =>
      meanOver(curve, rows, gapClosed(arm, 'global')).value -
      meanOver(curve, rows, gapClosed(level, 'global')).value;
  const [ours, ofUsers, ofProfiles] = [
    gain('posterior', 'level'),
    gain('bayes', 'bayes-level'),
    gain('bayes-profile', 'bayes-level'),
  ];
  const asked = curve.supportRows.filter((rows) => ofUsers(rows) >= GAIN_ASKED);
  if (asked.length === 0)
    return 'At no number of rows do responses bring the generator 15 points of the gap over its level.';
  const points = (share: number): string => (100 * share).toFixed(0);
  const told = asked.map(
    (rows) =>
      `${points(ours(rows))} points of ${points(ofUsers(rows))} at ${grouped(rows)} rows (${points(ofProfiles(rows))} without the tastes of single users)`,
  );
  const reached = asked.filter((rows) => ours(rows) >= ofUsers(rows) / 2);
  return (
    `Where responses bring the generator 15 points or more over its level, they bring \`posterior\` over \`level\` ${told.join(', ')}: ` +
    `at least half ${reached.length === asked.length ? 'everywhere' : reached.length === 0 ? 'nowhere' : `at ${listed(reached)} rows`}.`
  );
}

function cellRow(cell: EvidenceCell): (string | number)[] {
  const { set, seed, taskCounts, testRowCount, clickRate, seconds, commit, date, machine } = cell;
  const total = Object.values(seconds).reduce((sum, each) => sum + each, 0);
  const each = Object.entries(seconds).map(([name, taken]) => `${name} ${taken}`);
  return [
    ...[set, seed, [taskCounts.train, taskCounts.validation, taskCounts.test].join(' / ')],
    ...[grouped(testRowCount), percent({ value: clickRate }), `${total}: ${each.join(', ')}`],
    `commit ${commit}, ${date}, ${machine}, load ${cell.loadBefore} before`,
  ];
}

function percent({ value }: Pick<SeedMean, 'value'>): string {
  return (100 * value).toFixed(1);
}

function shareText({ value, interval }: SeedMean): string {
  const shown = (share: number): string => (100 * share).toFixed(0);
  return interval === null
    ? shown(value)
    : `${shown(value)} [${shown(interval.low)}, ${shown(interval.high)}]`;
}

function differenceText(mean: SeedMean): string {
  const { value, interval } = mean;
  if (interval === null) return value.toFixed(4);
  const { low, high } = interval;
  return `${value.toFixed(4)} [${low.toFixed(4)}, ${high.toFixed(4)}] ${verdictOf(mean)}`;
}
