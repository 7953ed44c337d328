/** `infra/results/adaptation.md` from its record. Pure. */

import { sumOf } from '../../../coordinator/scoring/metrics.js';
import { markdownTable } from '../bench-header.js';
import { differenceText, loglossText, verdictOf } from '../real/difference-text.js';
import { meanOver } from '../real/real-means.js';
import { INPUTS, WAYS, type Inputs, type WayName } from './adaptation-arms.js';
import type { AdaptationArm, AdaptationCell, AdaptationRecord } from './adaptation-record.js';

const INPUT_WORDS = {
  none: 'No input from support rows',
  rate: 'With the support rate and its evidence as inputs',
} as const satisfies Record<Inputs, string>;

export function adaptationPage({ cells }: AdaptationRecord): string {
  const groups = new Map<string, AdaptationCell[]>();
  for (const cell of Object.values(cells)) {
    const name = `${cell.set}, ${cell.support}`;
    groups.set(name, [...(groups.get(name) ?? []), cell]);
  }
  return [
    '# What adaptation adds to inputs and shifts',
    '',
    'Made by `npm run bench:adaptation` on the rows and divisions of `bench:real`. One trunk, a DeepFM with encodings across tasks, is trained',
    'in each way; settings of an evaluation are chosen on validation tasks, and the loss is that of what a bundle serves, on the query rows of',
    'test tasks. Differences are paired, with 95 % intervals over 2,000 bootstrap draws of test tasks, and means over seeds as if these were',
    'independent; below 0, the way is better. *Steps* are three of first-order MAML on bias, adgroup embedding and output; *learned rates* those of',
    'Meta-SGD; *rates by task* and *gates* those of PAML, which read the support rows and attributes of the task; *shrinkage* moves each',
    'personal parameter as far as its evidence goes beyond a learned prior; *generated blocks* are made of the support rows by an encoder,',
    'without steps. Embeddings that are generated from attributes alone (Meta-Embedding) have a page of their own. `adaptation.json` has every',
    'figure, with commit and machine.',
    '',
    ...[...groups].flatMap(([name, group]) => [
      `## ${name}`,
      '',
      describedCells(group),
      '',
      ...INPUTS.flatMap((inputs) => inputsSection(group, inputs)),
    ]),
    ...summary([...groups.values()]),
  ].join('\n');
}

function describedCells(cells: readonly AdaptationCell[]): string {
  const texts = cells.map(({ seed, commit, taskCounts }) => {
    const { train, validation, test } = taskCounts;
    return `seed ${seed} (commit ${commit}; ${train}, ${validation} and ${test} tasks to train, validate and test)`;
  });
  return `${texts.join(', ')}.`;
}

function inputsSection(cells: readonly AdaptationCell[], inputs: Inputs): string[] {
  const ways = wayNames().filter((way) => armsOf(cells, inputs, way).length > 0);
  if (ways.length === 0) return [];
  const rows = ways.map((way) => {
    const arms = armsOf(cells, inputs, way);
    const fromShift = meanOver(arms.map((arm) => arm.fromShift));
    return [
      way,
      loglossText(sumOf(arms.map(({ logloss }) => logloss)) / arms.length),
      ...(way === 'nothing'
        ? ['']
        : [differenceText(meanOver(arms.map((arm) => arm.fromNothing)))]),
      ...(way === 'shift' ? ['', ''] : [differenceText(fromShift), verdictOf(fromShift)]),
    ];
  });
  return [
    `${INPUT_WORDS[inputs]}:`,
    '',
    ...markdownTable(['adapts', 'logloss', 'minus nothing', 'minus shift', 'beside a shift'], rows),
    '',
  ];
}

function wayNames(): WayName[] {
  return Object.keys(WAYS) as WayName[];
}

function armsOf(cells: readonly AdaptationCell[], inputs: Inputs, way: WayName): AdaptationArm[] {
  return cells.flatMap(({ arms }) =>
    arms.filter((arm) => arm.inputs === inputs && arm.way === way),
  );
}

/** The sets on which each way is better, level or worse than a shift, as a mean over seeds. */
function summary(groups: readonly (readonly AdaptationCell[])[]): string[] {
  const ways = wayNames().filter((way) => way !== 'nothing' && way !== 'shift');
  const rows = ways.map((way) => [
    way,
    ...INPUTS.map((inputs) => {
      const verdicts = groups.flatMap((cells) => {
        const arms = armsOf(cells, inputs, way);
        return arms.length === 0 ? [] : [verdictOf(meanOver(arms.map((arm) => arm.fromShift)))];
      });
      return ['better', 'level', 'worse']
        .map((word) => `${verdicts.filter((verdict) => verdict === word).length} ${word}`)
        .join(', ');
    }),
  ]);
  return [
    '## Beside a shift of the level, by set',
    '',
    ...markdownTable(['adapts', 'no input from support rows', 'with the support rate'], rows),
    '',
  ];
}
