/** The page of served and evaluated scores. */

import { BLOCK_ENCODINGS } from '../../../../shared/bundle/ranking-model.js';
import { grouped, markdownTable, type BenchHeader } from '../../bench-header.js';
import type { CaseEquality } from './equality-measures.js';

export interface EqualityRecord extends BenchHeader {
  readonly cases: readonly CaseEquality[];
}

/** The bar of a difference. */
export const DIFFERENCE_MAX = 1e-5;

export function equalityPage({ cases, ...header }: EqualityRecord): string {
  const wrong = cases.filter((each) =>
    differencesOf(each).some((found) => !(found <= DIFFERENCE_MAX)),
  );
  const rowCounts = cases.map(({ rowCount }) => rowCount);
  return [
    ...['# Served scores are evaluated scores', ''],
    `Commit ${header.commit}, ${header.date}, ${header.machine}, load ${header.loadBefore} before. Made by \`npm run bench -- serving equality\`.`,
    '',
    `Each run is trained for a few outer steps on the same synthetic log, evaluated and exported at every encoding. All ${grouped(Math.min(...rowCounts))}`,
    'query rows of its held-out adgroups are then scored in four ways: by the evaluation, by the captured graph on the blocks of the bundle, by plain',
    'TypeScript, and by a server over HTTP from the texts of the log. Figures are the largest difference of a logit over all rows.',
    '',
    '| column | compares |',
    '|---|---|',
    '| evaluated | the served score with what the evaluation predicted, blocks in float32; of models that the server refuses, the captured graph on the blocks of the bundle |',
    '| server, TypeScript | the score with the captured graph, which evaluates, on the same blocks |',
    '| loss | mean logloss of the rows in float32, and its change at the other encodings |',
    '',
    wrong.length === 0
      ? `All differences are at most ${DIFFERENCE_MAX}.`
      : `Beyond ${DIFFERENCE_MAX}: ${wrong.map(({ name }) => name).join(', ')}.`,
    '',
    ...markdownTable(
      [
        ...['run', 'method', 'model', 'rows', 'evaluated'],
        ...BLOCK_ENCODINGS.flatMap((name) => [`server ${name}`, `TypeScript ${name}`]),
        ...['loss', 'float16', 'int8'],
      ],
      cases.map(rowOf),
    ),
    '',
    ...refusalsOf(cases),
    '',
  ].join('\n');
}

function refusalsOf(cases: readonly CaseEquality[]): string[] {
  const refused = cases.filter(({ refusal }) => refusal !== null);
  if (refused.length === 0) return [];
  return [
    'The server refuses these, and the captured graph scores them from the bundle:',
    '',
    ...refused.map(({ name, refusal }) => `- ${name}: ${refusal}`),
  ];
}

/** All differences that the bar is held to. */
export function differencesOf({ servedFromEvaluated, encodings }: CaseEquality): number[] {
  const exact = encodings['float32']?.fromEvaluated;
  const scored = Object.values(encodings).flatMap(({ served, reference }) => [served, reference]);
  return [exact, servedFromEvaluated, ...scored].flatMap((found) =>
    found === undefined || found === null ? [] : [found],
  );
}

function rowOf(each: CaseEquality): string[] {
  const { name, method, model, rowCount, servedFromEvaluated, encodings } = each;
  const exact = encodings['float32'];
  const changeOf = (encoding: string): string => {
    const change = (encodings[encoding]?.loss ?? NaN) - (exact?.loss ?? NaN);
    return `${change < 0 ? '' : '+'}${change.toExponential(1)}`;
  };
  return [
    ...[name, method, model, grouped(rowCount)],
    written(servedFromEvaluated ?? exact?.fromEvaluated ?? null),
    ...BLOCK_ENCODINGS.flatMap((encoding) => [
      written(encodings[encoding]?.served ?? null),
      written(encodings[encoding]?.reference ?? null),
    ]),
    ...[(exact?.loss ?? NaN).toFixed(5), changeOf('float16'), changeOf('int8')],
  ];
}

function written(difference: number | null): string {
  return difference === null ? '' : difference.toExponential(1);
}
