/** Results in a few lines, of verbs whose results are no documents. */

import type { cancelRun } from '../../coordinator/runs/cancel-run.js';
import type { prepareRun } from '../../coordinator/runs/prepare-run.js';
import type { SynthesisReport } from '../../coordinator/synthesize/synthesize.js';
import { QianmoError } from '../../shared/base/errors.js';
import { deviceReportLines } from '../../shared/events/device-report.js';
import { counted } from '../../shared/names/counted.js';
import type { MachineCheckResult } from './check-machine.js';
import type { ReplayResult } from './explored-log.js';
import type { Shown } from './verb.js';

type PreparedStore = Awaited<ReturnType<typeof prepareRun>>;

const count = (value: number): string => value.toLocaleString('en');
const countOf = (value: number, noun: string): string => counted(value, noun, count(value));

export function storeLines({ store, manifest }: PreparedStore): string {
  const { train, validation, test } = manifest.taskCountBySplit;
  const features = manifest.features.map((feature) =>
    'rowCount' in feature ? `${feature.name} (${count(feature.rowCount)} ids)` : feature.name,
  );
  return [
    `task store ${store}`,
    `  tasks:    ${count(manifest.taskCount)} (${count(train)} train, ${count(validation)} validation, ${count(test)} test)`,
    `  rows:     ${count(manifest.rowCount)}, rejected ${count(manifest.rejectedRowCount)}`,
    ...leftOutLines(manifest),
    ...(manifest.trunk === undefined
      ? []
      : [
          `  trunk:    ${count(manifest.trunk.rowCount)} of the rows train the trunk only, ` +
            `${count(manifest.trunk.smallTaskRowCount)} of them those of ${countOf(manifest.trunk.smallTaskCount, 'small task')}`,
        ]),
    `  features: ${features.join(', ')}`,
  ].join('\n');
}

/** The rows that are neither stored nor rejected, by the field of the config that leaves them out. */
function leftOutLines({ leftOut }: Pick<PreparedStore['manifest'], 'leftOut'>): string[] {
  const { filteredRowCount, tooSmallRowCount, tooSmallTaskCount } = leftOut ?? {};
  const reasons: readonly (readonly [number | undefined, string])[] = [
    [filteredRowCount, 'for which data.where is not true'],
    [
      tooSmallRowCount,
      `of ${countOf(tooSmallTaskCount ?? 0, 'task')} below supportRowsMin or queryRowsMin`,
    ],
    [leftOut?.cappedRowCount, 'beyond supportRowsMax or queryRowsMax of their task'],
    [leftOut?.unplacedRowCount, 'that data.splitFile does not name'],
  ];
  return reasons.flatMap(([rowCount = 0, reason]) =>
    rowCount === 0 ? [] : [`  left out: ${countOf(rowCount, 'row')} ${reason}`],
  );
}

export function synthesisLines(report: SynthesisReport): string {
  return [
    `advertising log ${report.path} (world: ${report.worldPath})`,
    `  rows:     ${count(report.rows)}, ${count(report.clickCount)} clicks, ${count(report.adgroupCount)} adgroups`,
    `  logloss:  constant ${report.constantLogloss.toFixed(4)}, oracle ${report.oracleLogloss.toFixed(4)}`,
    `  speed:    ${count(Math.round(report.rowsPerSecond))} rows/s`,
  ].join('\n');
}

/** Fails after a requirement that is not met. */
export function checkTexts(results: readonly MachineCheckResult[]): Shown {
  const problems = results.filter(({ state }) => state === 'problem');
  const shown = { text: checkTable(results), json: results };
  if (problems.length === 0) return shown;
  const failure = new QianmoError({
    kind: 'environment',
    what: `${problems.length} of ${results.length} requirements ${problems.length === 1 ? 'is' : 'are'} not met`,
    found: problems.map(({ requirement }) => requirement).join(', '),
    cure: 'the cures are named above',
  });
  return { ...shown, failure };
}

function checkTable(results: readonly MachineCheckResult[]): string {
  const width = Math.max(...results.map(({ requirement }) => requirement.length));
  return results
    .flatMap(({ state, requirement, detail, cure, device }) => {
      const margin = ' '.repeat(width + 11);
      const lines = [`${state.padEnd(7)}  ${requirement.padEnd(width)}  ${detail}`];
      if (cure !== null) lines.push(`${margin}cure: ${cure}`);
      const facts = device === undefined ? [] : deviceReportLines(device);
      const labelWidth = Math.max(...facts.map(([label]) => label.length));
      lines.push(...facts.map(([label, fact]) => `${margin}${label.padEnd(labelWidth)}  ${fact}`));
      return lines;
    })
    .join('\n');
}

/** Fails after a decision that differs. */
export function replayTexts(result: ReplayResult): Shown {
  const { decisionCount, differingCount, differing } = result;
  const text = `${decisionCount - differingCount} of ${decisionCount} decisions repeat bit for bit`;
  if (differingCount === 0) return { text, json: result };
  const failure = new QianmoError({
    kind: 'failed',
    what: 'decisions of the log do not repeat',
    expected: 'the slots and propensities of the record, from its input and seed',
    found: differing.join(', '),
    cure: 'replay with the version that made them; otherwise the log was changed',
  });
  return { text, json: result, failure };
}

export function cancelTexts(result: Awaited<ReturnType<typeof cancelRun>>): Shown {
  const { run, state, outerStep, outerSteps, coordinator } = result;
  const steps = outerStep === null ? '' : ` after outer step ${outerStep} of ${outerSteps ?? '?'}`;
  const where = `process ${coordinator.pid} on ${coordinator.host}`;
  const verb = state === 'ended' ? 'has stopped' : 'is stopping';
  return { text: `run ${run} ${verb}${steps} (${where})`, json: result };
}
