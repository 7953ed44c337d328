/**
 * Sweeps, searches and comparisons among the outputs that a dashboard finds: their list, and the page of one, which is its
 * report with links to the runs. Their calls keep a log as runs do; what they found lies next to it.
 */

import { at } from '../../shared/base/arrays.js';
import { parseComparison, type ComparisonReport } from '../scoring/compare-runs.js';
import { comparisonDocument } from '../reports/comparison-document.js';
import {
  absence,
  columnsOf,
  link,
  section,
  tableBlock,
  textBlock,
  type Block,
  type Cell,
} from '../reports/document/document.js';
import { durationText, formatCount, formatNumber } from '../reports/document/format.js';
import { stateBadge } from '../reports/run-documents.js';
import { sweepDocument, trainedTrialCount } from '../reports/sweep-document.js';
import { parseSweepRecord, type SweepRecord } from '../sweep/sweep-record.js';
import { runPath, type Page } from './page.js';
import type { CatalogedRun, RunCatalog } from './run-catalog.js';

type Findings =
  | { readonly kind: 'sweep' | 'search'; readonly record: SweepRecord }
  | { readonly kind: 'comparison'; readonly report: ComparisonReport };

const FILE_BY_CALL = new Map([
  ['sweep', 'sweep'],
  ['auto', 'auto'],
  ['compare', 'comparison'],
]);
const SWEEPS_MAX = 200;
const FILE_BYTE_COUNT_MAX = 32 * 1024 * 1024;
const KEPT_FOR_MS = 5_000;

export async function sweepListPage(catalog: RunCatalog): Promise<Page> {
  const { runs } = await catalog.runs();
  const found = runs.filter((run) => fileOf(run) !== undefined);
  const rows: Cell[][] = [];
  for (const run of found.slice(0, SWEEPS_MAX))
    rows.push(sweepRow(run, await findingsOf(catalog, run)));
  const table = tableBlock('Sweeps and comparisons', {
    columns: columnsOf(
      ...['<name', '<kind', '<state', 'trials or arms', '<best', 'loss', 'last event', '~output'],
    ),
    rows,
  });
  const none =
    'None yet. `qianmo sweep`, `qianmo auto` and `qianmo compare --out FOLDER` show here if their folders lie below --runs.';
  const isCut = found.length > SWEEPS_MAX;
  return {
    ...{ title: 'Sweeps', heading: 'Sweeps and comparisons', place: '/sweeps' },
    keptForMs: KEPT_FOR_MS,
    parts: {
      sweeps: [
        rows.length === 0 ? absence(none) : table,
        ...(isCut ? [absence('There are more, which were not read.')] : []),
      ],
    },
  };
}

function sweepRow({ key, status }: CatalogedRun, findings: Findings | null): Cell[] {
  const path = runPath(key).replace('/runs/', '/sweeps/');
  return [
    link(path, status.run ?? key),
    findings?.kind ?? '-',
    stateBadge(status.state),
    ...summaryOf(findings),
    `${durationText(status.silentMs)} ago`,
    status.output,
  ];
}

/** The number of trials or arms, the best of them and its loss. */
function summaryOf(findings: Findings | null): string[] {
  if (findings === null) return ['-', '-', '-'];
  if (findings.kind === 'comparison') {
    const { arms } = at(findings.report.slices, 0);
    const losses = arms.map(({ metrics }) => metrics.logloss);
    const loss = Math.min(...losses);
    const { length } = findings.report.runs;
    return [formatCount(length), at(arms, losses.indexOf(loss)).arm, formatNumber(loss, 4)];
  }
  const { trial = '-', validationLogloss: loss = null } = findings.record.best ?? {};
  return [formatCount(trainedTrialCount(findings.record)), trial, formatNumber(loss, 4)];
}

/** Null if no sweep or comparison has the key. */
export async function sweepPage(catalog: RunCatalog, key: string): Promise<Page | null> {
  const { runs } = await catalog.runs();
  const run = runs.find((each) => each.key === key);
  const file = run === undefined ? undefined : fileOf(run);
  if (run === undefined || file === undefined) return null;
  const { status } = run;
  const findings = await findingsOf(catalog, run);
  const state = [stateBadge(status.state), ' ', link(runPath(key), 'its workers and its log')];
  const isReported =
    findings !== null && (findings.kind === 'comparison' || findings.record.best !== null);
  const report = textBlock(link(`${runPath(key)}/files/${file}.html`, `${file}.html`));
  return {
    ...{ title: status.run ?? key, crumbs: status.output, place: '/sweeps', announced: ['state'] },
    keptForMs: KEPT_FOR_MS,
    parts: {
      state: [textBlock(state)],
      found: foundBlocks(findings, runs),
      report: isReported ? [section('As a file', '', [report])] : [],
    },
  };
}

function foundBlocks(findings: Findings | null, runs: readonly CatalogedRun[]): readonly Block[] {
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
  return findings.kind === 'comparison'
    ? comparisonDocument(findings.report, hrefOf).blocks
    : sweepDocument(findings.record, hrefOf).blocks;
}

/** The name of what the last call of an output writes; undefined for calls of other kinds. */
function fileOf({ status: { callName } }: CatalogedRun): string | undefined {
  return FILE_BY_CALL.get(callName ?? '');
}

/** Null for a file that is not there, or that another version wrote: the other pages stay. */
async function findingsOf(catalog: RunCatalog, run: CatalogedRun): Promise<Findings | null> {
  const [file, output] = [fileOf(run), await catalog.storeOf(run.key)];
  if (file === undefined || output === null) return null;
  try {
    const object = await output.get(`${file}.json`, FILE_BYTE_COUNT_MAX);
    if (object === null) return null;
    const text = Buffer.from(object.bytes).toString('utf8');
    const where = `${output.address}/${file}.json`;
    if (file === 'comparison') return { kind: 'comparison', report: parseComparison(text, where) };
    return { kind: file === 'auto' ? 'search' : 'sweep', record: parseSweepRecord(text, where) };
  } catch {
    return null;
  }
}
