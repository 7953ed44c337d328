/** The list of sweeps, searches and comparisons, and the page of one: its document, with links to the runs. */

import { at } from '../../../shared/base/arrays.js';
import type { ComparisonReport } from '../../scoring/compare-runs.js';
import { comparisonDocument } from '../../reports/comparison-document.js';
import {
  absence,
  columnsOf,
  link,
  section,
  tableBlock,
  textBlock,
  type Block,
  type Cell,
} from '../../reports/document/document.js';
import { durationText, formatCount, formatNumber } from '../../reports/document/format.js';
import { stateBadge } from '../../reports/run-documents.js';
import { trainedTrialCount, sweepDocument } from '../../reports/sweep-document.js';
import type { CatalogedRun } from '../catalog/run-catalog.js';
import type { CatalogedSweep, CatalogedSweeps } from '../catalog/sweep-catalog.js';
import { announcedPart, headPart, part, runPath, sweepPath, type Page } from './page.js';

export function sweepListPage({ sweeps, isCut }: CatalogedSweeps): Page {
  return {
    title: 'Sweeps',
    place: '/sweeps',
    parts: [
      headPart('Sweeps and comparisons'),
      part(
        'sweeps',
        sweepsTable(sweeps),
        ...(isCut ? [absence('There are more, which were not read.')] : []),
      ),
    ],
  };
}

function sweepsTable(sweeps: readonly CatalogedSweep[]): Block {
  if (sweeps.length === 0)
    return absence(
      'None yet. `qianmo sweep`, `qianmo auto` and `qianmo compare --out FOLDER` show here if their folders lie below --runs.',
    );
  return tableBlock('Sweeps and comparisons', {
    columns: columnsOf(
      ...['<name', '<kind', '<state', 'trials or arms', '<best', 'loss', 'last event', '~output'],
    ),
    rows: sweeps.map(({ key, status, findings }): Cell[] => {
      const { kind, count, best, loss } = summaryOf(findings);
      return [
        link(sweepPath(key), status.run ?? key),
        kind,
        stateBadge(status.state),
        count,
        best,
        formatNumber(loss, 4),
        `${durationText(status.silentMs)} ago`,
        status.output,
      ];
    }),
  });
}

interface Summary {
  readonly kind: string;
  readonly count: string;
  readonly best: string;
  readonly loss: number | null;
}

function summaryOf(findings: CatalogedSweep['findings']): Summary {
  if (findings === null) return { kind: '-', count: '-', best: '-', loss: null };
  if (findings.kind === 'comparison') {
    const { runs } = findings.report;
    return { kind: 'comparison', count: formatCount(runs.length), ...bestArm(findings.report) };
  }
  const { record, kind } = findings;
  const { trial = '-', validationLogloss: loss = null } = record.best ?? {};
  return { kind, count: formatCount(trainedTrialCount(record)), best: trial, loss };
}

/** The arm with the lowest loss on all test adgroups. */
function bestArm({ slices }: ComparisonReport): Pick<Summary, 'best' | 'loss'> {
  const { arms } = at(slices, 0);
  const losses = arms.map(({ metrics }) => metrics.logloss);
  const loss = Math.min(...losses);
  return { best: at(arms, losses.indexOf(loss)).arm, loss };
}

/** @param runs those that the dashboard knows, to link to */
export function sweepPage(sweep: CatalogedSweep, runs: readonly CatalogedRun[]): Page {
  const { key, status, findings } = sweep;
  const name = status.run ?? key;
  const state = [stateBadge(status.state), ' ', link(runPath(key), 'its workers and its log')];
  return {
    title: name,
    place: '/sweeps',
    parts: [
      headPart(name, status.output),
      announcedPart('state', textBlock(state)),
      part('found', ...foundBlocks(findings, runs)),
      part('report', ...reportLink(key, findings)),
    ],
  };
}

function foundBlocks(
  findings: CatalogedSweep['findings'],
  runs: readonly CatalogedRun[],
): readonly Block[] {
  if (findings === null)
    return [absence('Nothing was found yet, or another version has written it.')];
  /** Calls name outputs as seen from their own folder. */
  const hrefOf = (output: string): string | null => {
    const address = output.replace(/^file:\/\//, '').replace(/\/+$/, '');
    const run = runs.find(
      ({ status }) => status.output === address || status.output.endsWith(`/${address}`),
    );
    return run === undefined ? null : runPath(run.key);
  };
  const { blocks } =
    findings.kind === 'comparison'
      ? comparisonDocument(findings.report, hrefOf)
      : sweepDocument(findings.record, hrefOf);
  return blocks;
}

function reportLink(key: string, findings: CatalogedSweep['findings']): Block[] {
  if (findings === null) return [];
  if (findings.kind !== 'comparison' && findings.record.best === null) return [];
  const page = link(`${runPath(key)}/files/${findings.page}`, findings.page);
  return [section('As a file', '', [textBlock(page)])];
}
