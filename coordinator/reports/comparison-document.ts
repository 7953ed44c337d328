/** A comparison of runs as a document. */

import { at } from '../../shared/base/arrays.js';
import { isGlobalArm, shownArm } from '../../shared/config/arms.js';
import { ComparisonReportSchema, type ComparisonReport } from '../scoring/compare-runs.js';
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
} from './arm-sections.js';
import {
  code,
  factsBlock,
  fieldsBlock,
  section,
  tableBlock,
  textBlock,
  type Block,
  type Document,
  type Text,
} from './document/document.js';
import { formatCount, formatShare } from './document/format.js';

/** The label of a compared run for people. */
export function shownLabel({ runs }: Pick<ComparisonReport, 'runs'>, label: string): string {
  const compared = runs.find((run) => run.label === label);
  if (compared === undefined) return label;
  const { run, arm, personalBlocks } = compared;
  const name = `${run}:${arm}`;
  if (!label.startsWith(name)) return label;
  return `${run}:${shownArm(arm, personalBlocks)}${label.slice(name.length)}`;
}

/** @param hrefOf the page of a run; null without one */
export function comparisonDocument(
  report: ComparisonReport,
  hrefOf: (address: string) => string | null = () => null,
): Document {
  const { runs, slices, confidence } = report;
  const [all, ...buckets] = slices;
  if (all === undefined) throw new Error('a comparison has test adgroups');
  const nameOf = (label: string): string => shownLabel(report, label);
  const first = nameOf(at(runs, 0).label);
  const words = wordsOf(report);
  const placeOf = (label: string): number => runs.findIndex((run) => run.label === label);
  const look: ArmLook = {
    nameOf,
    colorOf: (label) => `var(--run-${placeOf(label)})`,
    hrefOf: (label) => hrefOf(at(runs, placeOf(label)).address),
  };
  const sentences = comparedPairs(all).map((pair) =>
    textBlock(verdictSentence(pair, words, look), pair.verdict),
  );
  return {
    title: `Comparison of ${runs.length} runs`,
    subtitle: runs.map(({ label }) => nameOf(label)).join(', '),
    data: ComparisonReportSchema.parse(report),
    blocks: [
      factsBlock(...rowFacts(all, words)),
      section('In short', '', sentences, 'page'),
      section('The runs', '', [fieldsBlock(runFields(report, look))]),
      section('Metrics', `* or bold: best of its adgroups, without the oracle`, [
        tableBlock('Metrics', metricsTable(slices, look)),
      ]),
      section(
        `Differences from ${first}`,
        `the run minus the first, with ${formatShare(confidence)} intervals from ${formatCount(report.bootstrapSamples)} bootstrap draws of whole adgroups, the same for every run`,
        [
          tableBlock('Differences', differencesTable(comparedPairs(all), words, look)),
          ...buckets.map((bucket): Block => {
            const table = differencesTable(comparedPairs(bucket), words, look);
            return {
              ...{ kind: 'details', summary: `${bucket.name} support rows` },
              blocks: [tableBlock(bucket.name, table)],
            };
          }),
        ],
      ),
      ...slicesSections(
        {
          ...{ title: 'By size of the adgroup', note: '', chart: 'intervals', reference: first },
          slices: buckets.map((slice) => ({ name: slice.name, slice })),
        },
        ...([words, look] as const),
      ),
      calibrationSection(report, words, look),
      section('', '', sentences, 'terminal'),
    ],
  };
}

function runFields({ runs, ...report }: ComparisonReport, look: ArmLook): [Text, Text][] {
  return runs.map((run) => {
    const chosen =
      run.cell === null
        ? ''
        : `; ${describeCell({ cell: run.cell }, isGlobalArm(run.arm) ? null : run.method)}`;
    const validation =
      run.validationLogloss === null
        ? ''
        : `; validation ${wordsOf(report).loss} ${run.validationLogloss.toFixed(4)}`;
    const more = [
      { text: `; personal blocks: ${run.personalBlocks.join(', ') || 'none'}${validation}; ` },
      code(run.address),
      { text: ', config ' },
      code(run.configHash.slice(0, 12)),
      { text: ', meta-parameters ' },
      code(run.metaDigest.slice(0, 12)),
    ];
    return [
      armCell(run.label, look),
      [
        `${run.method}, ${run.model}, seed ${run.seed}${chosen}`,
        ...more.map((piece) => ({ ...piece, on: 'page' as const })),
      ],
    ];
  });
}
