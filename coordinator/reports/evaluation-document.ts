/** The evaluation of a run as a document. */

import { at } from '../../shared/base/arrays.js';
import { EVALUATED_ARMS, isGlobalArm, shownArm } from '../../shared/config/arms.js';
import { counted } from '../../shared/names/counted.js';
import type {
  BlockChoice,
  CrowdChoice,
  EvaluationReport,
  Selection,
  Slice,
  ValidationSummary,
} from '../scoring/evaluation-report.js';
import { STANDARD_ERRORS_APART } from '../scoring/validated-losses.js';
import {
  armCell,
  calibrationSection,
  comparedPairs,
  describeCell,
  differencesTable,
  metricsTable,
  rowFacts,
  slicesSections,
  verdictSentence,
  wordsOf,
  type ArmLook,
  type LabelWords,
} from './arm-sections.js';
import {
  code,
  columnsOf,
  factsBlock,
  fieldsBlock,
  leftColumn,
  section,
  tableBlock,
  textBlock,
  type Block,
  type Cell,
  type Document,
  type Piece,
  type Section,
  type Table,
  type Text,
} from './document/document.js';
import { formatCount, formatNumber, formatShare, formatSigned } from './document/format.js';

export function evaluationDocument(report: EvaluationReport): Document {
  const { run, selection, validation, importance = [], shots = [] } = report;
  const all = at(report.slices, 0);
  const words = wordsOf(report);
  const look: ArmLook = {
    colorOf: (arm) => `var(--arm-${arm})`,
    nameOf: (arm) => shownArm(arm, report.run.personalBlocks),
  };
  const segment = report.label?.segment ?? null;
  const buckets = report.slices.slice(1);
  const { blocks, crowds } = selection;
  return {
    title: `Evaluation of ${run.run}${segment === null ? '' : `, segment ${segment}`}`,
    subtitle: `${run.method}, ${run.model}, seed ${run.seed}`,
    data: report,
    blocks: [
      factsBlock(...rowFacts(all, words), [
        formatCount(report.counts.validationTasks),
        'adgroups to choose settings on',
      ]),
      section('In short', '', conclusions(report, words, look), 'page'),
      section('All test adgroups', metricsNote(all), [
        tableBlock('All test adgroups', metricsTable([all], look)),
      ]),
      section(
        'Paired differences',
        `${words.loss} of the arm minus that of the reference, ${words.unit}, with ${formatShare(report.confidence)} intervals from ` +
          `${formatCount(report.bootstrapSamples)} bootstrap draws of whole adgroups`,
        [tableBlock('Paired differences', differencesTable(claimedPairs(all), words, look))],
      ),
      ...slicesSections(
        {
          ...{ title: 'By size of the adgroup', note: '', chart: 'intervals', reference: 'global' },
          slices: buckets.map((slice) => ({ name: slice.name, slice })),
        },
        ...([words, look] as const),
      ),
      ...slicesSections(
        {
          ...{ title: 'By number of support rows', chart: 'bands', reference: 'global' },
          note: '. Every arm adapts on the first support rows of each test adgroup, with the chosen settings; the query rows are the same',
          slices: shots.map(({ supportRowsMax, slice }) => ({
            name: String(supportRowsMax),
            slice,
          })),
        },
        ...([words, look] as const),
      ),
      calibrationSection(report, words, look),
      ...(validation === undefined ? [] : [validationSection(validation, words, look)]),
      importanceSection(importance, words),
      ...settingsSection(report, words, look),
      ...(blocks === undefined ? [] : [blocksSection(blocks, words, look)]),
      ...(crowds === undefined ? [] : [crowdsSection(crowds, words, look)]),
      section('The run', '', [fieldsBlock(runFields(report, words))], 'page'),
      section('', '', conclusions(report, words, look), 'terminal'),
    ],
  };
}

/** Arms that claim to improve on a reference. */
const CLAIMING_ARMS: readonly string[] = EVALUATED_ARMS.filter(
  (arm) => arm !== 'constant' && arm !== 'global',
);

/** Each claiming arm against each reference that is listed before it. */
function claimedPairs(slice: Slice): ReturnType<typeof comparedPairs>[number][] {
  const placeOf = (arm: string): number => CLAIMING_ARMS.indexOf(arm);
  return comparedPairs(slice).filter(
    ({ arm, difference }) => placeOf(arm) > placeOf(difference.reference),
  );
}

/** About the arm that the run was made for: meta-adapted if it is there, else the last claiming arm. */
function conclusions(report: EvaluationReport, words: LabelWords, look: ArmLook): Block[] {
  const pairs = claimedPairs(at(report.slices, 0));
  const main = pairs.some(({ arm }) => arm === 'meta-adapted') ? 'meta-adapted' : pairs.at(-1)?.arm;
  return [
    ...pairs
      .filter(({ arm }) => arm === main)
      .map((pair) => textBlock(verdictSentence(pair, words, look), pair.verdict)),
    ...report.armsLeftOut.map(({ arm, reason }) =>
      textBlock(`${look.nameOf(arm)} was left out: ${reason}.`, 'undecided'),
    ),
  ];
}

function metricsNote({ arms: [first] }: Slice): Text {
  const { values, gaucAdgroupsLeftOutCount: leftOut = 0 } = first?.metrics ?? {};
  const onPage = (text: string): Piece => ({ text, on: 'page' });
  const definitions =
    values === undefined
      ? 'Logloss per impression and as a mean over adgroups; NE is logloss over the entropy of the click rate; GAUC is the AUC ' +
        'within adgroups, weighted by impressions; pred/act is predicted over actual clicks; ECE the mean distance of prediction and click rate. '
      : 'Squared error per row and as a mean over adgroups, in squares of the unit of the values; R2 is the share of their variance that is explained; ' +
        `pred/act is the sum of predictions over that of values; nDCG@${values.ndcgAt} ranks the rows of each adgroup, with gain 2^value - 1. `;
  return [
    onPage(definitions),
    { text: '* best of its column, without the oracle', on: 'terminal' },
    onPage('Bold: best of its column, without the oracle'),
    leftOut === 0 ? '' : `; adgroups with one class, not in GAUC: ${formatCount(leftOut)}`,
  ];
}

function validationSection(
  validation: ValidationSummary,
  words: LabelWords,
  look: ArmLook,
): Section {
  const { adgroupCount, arms, chosen, foldCount } = validation;
  const title = 'Chosen on validation alone';
  const table: Table = {
    columns: [
      leftColumn('arm'),
      { title: 'tuned on all', unit: words.unit },
      { title: 'held out', unit: `${foldCount} folds`, marksBest: true },
      { title: 'minus chosen', unit: '± standard error' },
    ],
    rows: arms.map(({ arm, logloss, heldOutLogloss, fromChosen }) => {
      const text = formatNumber(heldOutLogloss, 5);
      return [
        armCell(arm, look),
        formatNumber(logloss, 5),
        arm === chosen ? { cell: text, emphasis: 'best' } : text,
        fromChosen === null
          ? '-'
          : `${formatSigned(fromChosen.value, 5)} ± ${fromChosen.standardError.toFixed(5)}`,
      ];
    }),
  };
  return section(
    title,
    `${words.loss} on the query rows of ${counted(adgroupCount, 'validation adgroup', formatCount(adgroupCount))}; test adgroups were not used`,
    [tableBlock(title, table), textBlock(choiceSentence(validation, look))],
  );
}

function importanceSection(
  importance: NonNullable<EvaluationReport['importance']>,
  words: LabelWords,
): Section {
  const title = 'Importance of features';
  return section(
    title,
    `what the model, adapted if its method adapts, loses in ${words.loss}, ${words.unit}, where query rows of validation adgroups have the values of another adgroup in ` +
      'a feature and its encodings, with its standard error; features that say the same hide each other',
    importance.length === 0
      ? []
      : [
          tableBlock(title, {
            columns: [leftColumn('feature'), { title: 'loss' }, { title: '± standard error' }],
            rows: importance.map(({ feature, increase, standardError }) => [
              feature,
              formatSigned(increase, 5),
              standardError.toFixed(5),
            ]),
          }),
        ],
    'page',
  );
}

/** `Validation alone would choose A; not told apart from it: B.` */
function choiceSentence(
  { arms, chosen: chosenArm, adgroupCount }: ValidationSummary,
  { nameOf }: ArmLook,
): string {
  if (chosenArm === null) return 'Every arm diverged on the validation adgroups.';
  const chosen = nameOf(chosenArm);
  if (adgroupCount === 1)
    return `Validation alone would choose ${chosen}; a single adgroup does not say how sure that is.`;
  const near = arms.filter(
    ({ arm, fromChosen }) =>
      arm !== 'oracle' &&
      fromChosen !== null &&
      Math.abs(fromChosen.value) <= STANDARD_ERRORS_APART * fromChosen.standardError,
  );
  const names = near.map(({ arm }) => nameOf(arm)).join(', ');
  const sure =
    names === ''
      ? `every other arm is worse by more than ${STANDARD_ERRORS_APART} standard errors`
      : `not told apart from it (within ${STANDARD_ERRORS_APART} standard errors): ${names}`;
  return `Validation alone would choose ${chosen}; ${sure}.`;
}

function settingsSection(
  { selection, run }: EvaluationReport,
  { loss }: LabelWords,
  look: ArmLook,
): Section[] {
  const methodOf = (arm: string): string | null => (isGlobalArm(arm) ? null : run.method);
  const { chosen, cellsPerArm, criterion } = selection;
  if (chosen.length === 0) return [];
  const title = 'Chosen settings';
  const table: Table = {
    columns: columnsOf('<', '<', '<'),
    rows: chosen.map((each) => [
      armCell(each.arm, look),
      describeCell(each, methodOf(each.arm)),
      each.atGridEdge ? 'at the edge of its grid' : '',
    ]),
  };
  const tried: Table = {
    columns: columnsOf('<arm', '<setting', `validation ${loss}`),
    rows: chosen.flatMap(({ arm, cell: best, grid }: Selection) =>
      grid.map(({ cell, validationLogloss }): Cell[] => {
        const text = validationLogloss?.toFixed(4) ?? 'diverged';
        const isBest = JSON.stringify(cell) === JSON.stringify(best);
        const shown: Cell = isBest ? { cell: text, emphasis: 'chosen' } : text;
        return [armCell(arm, look), describeCell({ cell }, methodOf(arm)), shown];
      }),
    ),
  };
  const all = tableBlock('Settings that were tried', tried);
  return [
    section(title, `${cellsPerArm} tried for each arm; chosen by ${criterion}`, [
      tableBlock(title, table),
      { kind: 'details', summary: 'All settings that were tried', blocks: [all] },
    ]),
  ];
}

function blocksSection(
  { rule, buckets }: { readonly rule: string; readonly buckets: readonly BlockChoice[] },
  { unit }: LabelWords,
  { nameOf }: ArmLook,
): Section {
  const title = `Blocks that ${nameOf('meta-chosen')} serves`;
  return section(title, rule, [
    tableBlock(title, {
      columns: [
        ...columnsOf('<support rows', '<serves', 'validation adgroups'),
        { title: `adapted - unadapted, ${unit}` },
        { title: 'decided by' },
      ],
      rows: buckets.map(({ name, serves, adgroupCount, difference, decidedBy }) => [
        ...[name, serves, formatCount(adgroupCount)],
        difference === null ? '-' : formatSigned(difference, 5),
        decidedBy === 'bucket' ? 'the bucket' : 'all adgroups',
      ]),
    }),
  ]);
}

function crowdsSection(
  { serves, difference }: CrowdChoice,
  { unit }: LabelWords,
  { nameOf }: ArmLook,
): Section {
  const compared = `${nameOf('crowd-adapted')} - ${nameOf('meta-adapted')} on validation adgroups`;
  const found =
    difference === null
      ? 'no number'
      : `${formatSigned(difference.value, 5)} ± ${difference.standardError.toFixed(5)} ${unit}`;
  const sentence = `${compared}: ${found}. A bundle has ${serves === 'crowds' ? '' : 'no '}blocks of crowds.`;
  return section('Blocks of crowds', '', [textBlock(sentence)]);
}

function runFields(
  { run, counts, ...report }: EvaluationReport,
  words: LabelWords,
): [string, Text][] {
  const rowCounts = [counts.testSupportRows, counts.testQueryRows, counts.validationQueryRows];
  const [support, query, validation] = rowCounts.map(formatCount);
  return [
    ['model', `${run.model}; personal blocks: ${run.personalBlocks.join(', ') || 'none'}`],
    [
      'adgroups',
      `${formatCount(counts.trainTasks)} train, ${formatCount(counts.validationTasks)} validation, ${formatCount(counts.testTasks)} test`,
    ],
    [
      'rows',
      `${support} support and ${query} query rows of test adgroups, ${validation} query rows of validation adgroups`,
    ],
    [`${words.rate} in training`, words.describeRate(report.trainClickRate)],
    ['meta-parameters', code(run.metaDigest)],
    ['global parameters', run.globalDigest === null ? 'none' : code(run.globalDigest)],
    ['task store', [code(run.storeAddress), ' ', code(run.storeDigest)]],
    ['config', code(run.configHash)],
    ['computed by', run.backends.join('; ')],
    [
      'finished',
      `${new Date(run.finishedEpochMs).toISOString()}, after ${formatNumber(run.durationMs / 1000, 1)} s`,
    ],
  ];
}
