/** The validation losses of every arm, on a terminal and on the page. */

import type {
  BlendChoice,
  EvaluationReport,
  ValidationSummary,
} from '../../scoring/evaluation-report.js';
import { STANDARD_ERRORS_APART } from '../../scoring/validated-losses.js';
import { counted } from '../../../shared/names/counted.js';
import { escapeHtml } from '../html-text.js';
import { wordsOf, type LabelWords } from '../label-words.js';
import { card, section } from '../page/page-frame.js';
import { htmlTable, textTable, type Table } from '../table.js';
import { formatCount, formatNumber, wrap } from '../text-format.js';
import { armCell } from './evaluation-tables.js';

export function validatedText(report: EvaluationReport, outputColumns: number): string {
  const { validation } = report;
  if (validation === undefined) return '';
  const words = wordsOf(report);
  return [
    `Validation adgroups: ${words.loss}, ${words.unit} ${words.perRow}; ${judgedOn(validation)}`,
    textTable(validatedTable(validation, words)),
    wrap(choiceSentence(validation), outputColumns),
  ].join('\n');
}

export function validatedHtml(report: EvaluationReport): string {
  const { validation } = report;
  if (validation === undefined) return '';
  const words = wordsOf(report);
  return section(
    'Chosen on validation alone',
    `${escapeHtml(choiceSentence(validation))} ${words.lossTitle} on the query rows of ${judgedOn(validation)}. Test adgroups were not used.`,
    card(htmlTable(validatedTable(validation, words))),
  );
}

function judgedOn({ adgroupCount, drawCount }: ValidationSummary): string {
  const draws = drawCount === 1 ? '' : `, ${drawCount} draws of support rows each`;
  return `${counted(adgroupCount, 'adgroup', formatCount(adgroupCount))}${draws}`;
}

function validatedTable(
  { arms, chosen, foldCount }: ValidationSummary,
  { unit, perRow }: LabelWords,
): Table {
  return {
    columns: [
      { title: 'arm', alignment: 'left' },
      { title: 'tuned on all ', page: { title: 'tuned on all', unit: `${unit} ${perRow}` } },
      {
        title: 'held out ',
        marksBest: true,
        page: { title: 'held out', unit: `tuned on the others of ${foldCount} folds` },
      },
      { title: 'minus chosen', page: { unit: '± standard error' } },
    ],
    rows: arms.map(({ arm, logloss, heldOutLogloss, fromChosen }) => {
      const text = formatNumber(heldOutLogloss, 5);
      return [
        armCell(arm),
        formatNumber(logloss, 5),
        arm === chosen ? { text, emphasis: 'best' } : text,
        fromChosen === null
          ? '-'
          : `${fromChosen.value < 0 ? '' : '+'}${fromChosen.value.toFixed(5)} ± ${fromChosen.standardError.toFixed(5)}`,
      ];
    }),
  };
}

/** `Validation would choose A; B is within 2 standard errors of it.` */
export function choiceSentence({ arms, chosen, adgroupCount }: ValidationSummary): string {
  if (chosen === null) return 'Every arm diverged on the validation adgroups.';
  if (adgroupCount === 1)
    return `Validation alone would choose ${chosen}; a single adgroup does not say how sure that is.`;
  const near = arms.flatMap(({ arm, fromChosen }) =>
    arm !== 'oracle' &&
    fromChosen !== null &&
    Math.abs(fromChosen.value) <= STANDARD_ERRORS_APART * fromChosen.standardError
      ? [arm]
      : [],
  );
  const sure =
    near.length === 0
      ? `every other arm is worse by more than ${STANDARD_ERRORS_APART} standard errors`
      : `not told apart from it (within ${STANDARD_ERRORS_APART} standard errors): ${near.join(', ')}`;
  return `Validation alone would choose ${chosen}; ${sure}.`;
}

export function blendText(report: EvaluationReport): string {
  const { blend } = report.selection;
  if (blend === undefined) return '';
  return `Weights of blend: ${blendRule(blend)}\n${textTable(blendTable(blend))}\n${SERVING_NOTE}`;
}

export function blendHtml(report: EvaluationReport): string {
  const { blend } = report.selection;
  if (blend === undefined) return '';
  return section(
    'Weights of the blend',
    `Fitted to the validation adgroups alone, ${blendRule(blend)}. ${SERVING_NOTE}`,
    card(htmlTable(blendTable(blend))),
  );
}

const SERVING_NOTE = 'A bundle scores one block for each adgroup, so that it cannot serve a blend.';

function blendRule({ shrinkage }: BlendChoice): string {
  return shrinkage === null
    ? 'the best arm alone, which no blend beat on other folds'
    : `pulled towards the best arm like ${shrinkage} times the validation impressions`;
}

function blendTable({ arms, buckets }: BlendChoice): Table {
  return {
    columns: [{ title: 'support rows', alignment: 'left' }, ...arms.map((arm) => ({ title: arm }))],
    rows: buckets.map(({ name, weights }) => [name, ...weights.map((w) => formatNumber(w, 3))]),
  };
}
