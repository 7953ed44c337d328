/** The list of sweeps, searches and comparisons: the latest first, each with the best that it has found. */

import { durationText } from '../../reports/record/duration-text.js';
import { formatCount } from '../../reports/text-format.js';
import { begunTrialCount } from '../../reports/sweep/sweep-table.js';
import type { CatalogedSweep, CatalogedSweeps } from '../catalog/sweep-catalog.js';
import { link, nothing, regionTable, stateBadge, sweepPath, type Cell } from './elements.js';
import type { Page } from './page.js';
import { bestOfComparison } from './sweep-page.js';

export function sweepListPage({ sweeps, isCut }: CatalogedSweeps): Page {
  const cut = isCut ? nothing('There are more, which were not read.') : '';
  return {
    title: 'Sweeps',
    place: '/sweeps',
    parts: [
      { id: 'head', html: '<h1>Sweeps and comparisons</h1>' },
      { id: 'sweeps', html: listHtml(sweeps) + cut },
    ],
  };
}

function listHtml(sweeps: readonly CatalogedSweep[]): string {
  if (sweeps.length === 0)
    return nothing(
      'None yet. `qianmo sweep`, `qianmo auto` and `qianmo compare --out FOLDER` show here, when their folders lie below --runs.',
    );
  return regionTable({
    label: 'Sweeps and comparisons',
    columns: [
      ['name', 'text'],
      ['kind', 'text'],
      ['state', 'text'],
      ['trials or arms'],
      ['best', 'text'],
      ['loss'],
      ['last event'],
      ['output', 'wrap'],
    ],
    rows: sweeps.map(rowOf),
  });
}

function rowOf({ key, status, findings }: CatalogedSweep): Cell[] {
  const [kind, count, best, loss] = foundCells(findings);
  return [
    link(sweepPath(key), status.run ?? key),
    kind,
    stateBadge(status.state),
    count,
    best,
    loss,
    `${durationText(status.silentMs)} ago`,
    status.output,
  ];
}

function foundCells(findings: CatalogedSweep['findings']): [string, string, string, string] {
  if (findings === null) return ['-', '-', '-', '-'];
  if (findings.kind === 'comparison') {
    const { runs } = findings.report;
    const best = bestOfComparison(findings.report);
    return ['comparison', formatCount(runs.length), best.label, best.logloss.toFixed(4)];
  }
  const { record, kind } = findings;
  const { best } = record;
  return [
    kind,
    formatCount(begunTrialCount(record)),
    best?.trial ?? '-',
    best?.validationLogloss.toFixed(4) ?? '-',
  ];
}
