/**
 * The demo's run by number of support rows, phase by phase and year by year:
 * `infra/examples/movielens.yaml` with its three additional protocols, run by the `qianmo` command.
 * Writes `infra/results/movielens-protocols.md`.
 *
 *   npm run bench:movielens-protocols
 */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import type {
  EvaluationReport,
  ProtocolResult,
} from '../../coordinator/scoring/evaluation-report.js';
import { cellText, columnsOn } from '../../coordinator/reports/document/as-text.js';
import { PROTOCOL_WORDING, slicesTable } from '../../coordinator/reports/evaluation-document.js';
import { parseReport } from '../../coordinator/scoring/report-json.js';
import { packageRoot } from '../../infra/library/package-root.js';
import { benchHeader, markdownTable, type BenchHeader } from './bench-header.js';
import { qianmo } from './qianmo-command.js';
import { benchOptions } from './options/bench-options.js';
import { text, wholeNumber } from './options/option-values.js';

const EXAMPLE = new URL('infra/examples/movielens.yaml', packageRoot);
const RESULT = new URL('infra/results/movielens-protocols.md', packageRoot);
/** The protocols that are commented out in the example. */
const PROTOCOLS = {
  shots: [0, 5, 10, 20, 50, 100],
  phases: { count: 3, rowsPerPhase: 20 },
  progressive: { periodSeconds: 31_536_000 },
};
const section = z.looseObject({});
const ExampleSchema = z.looseObject({ data: section, evaluation: section });

const options = benchOptions(import.meta.url, {
  folder: {
    value: text,
    default: 'runs/movielens-protocols',
    about: 'folder of what the bench makes meanwhile',
  },
  workers: { value: wholeNumber(), default: '2', about: 'workers of each run' },
});

const header = benchHeader();
mkdirSync(options.folder, { recursive: true });
const config = join(options.folder, 'run.yaml');
writeFileSync(config, configIn(options.folder));
qianmo('prepare', config);
for (const verb of ['train', 'evaluate'])
  qianmo(verb, config, '--workers', String(options.workers), '--fresh');
const reportPath = join(options.folder, 'evaluation.json');
const page = pageOf(parseReport(readFileSync(reportPath, 'utf8'), reportPath), header);
writeFileSync(RESULT, page);
process.stdout.write(page);

function configIn(folder: string): string {
  const example = ExampleSchema.parse(parse(readFileSync(EXAMPLE, 'utf8')));
  return stringify({
    ...example,
    data: { ...example.data, store: join(folder, 'store') },
    evaluation: { ...example.evaluation, ...PROTOCOLS },
    output: folder,
  });
}

function pageOf(report: EvaluationReport, { commit, date, machine }: BenchHeader): string {
  return [
    "# The demo's run under the evaluation protocols",
    '',
    `Commit ${commit}, ${date}, ${machine}. Made by \`npm run bench:movielens-protocols\`, which runs`,
    '`infra/examples/movielens.yaml` with one seed and with the protocols that are commented out there. The values are logloss in nats',
    'on test films, and the best of each row is bold. `movielens-protocols-notes.md` discusses them.',
    ...(report.protocols ?? []).flatMap((protocol) => ['', ...sectionOf(protocol)]),
    '',
  ].join('\n');
}

function sectionOf(protocol: ProtocolResult): string[] {
  const { title, axis, note } = PROTOCOL_WORDING[protocol.kind];
  const { points: slices, together } = protocol;
  const { columns, rows } = columnsOn('terminal', slicesTable({ axis, slices, together }));
  const titles = [axis, 'films', ...columns.slice(2).map((column) => column.title)];
  const lines = rows.map((row) =>
    row.map((cell) => {
      const isBest = typeof cell === 'object' && 'emphasis' in cell;
      return isBest ? `**${cellText(cell)}**` : cellText(cell);
    }),
  );
  return [`## ${title}`, '', note, '', ...markdownTable(titles, lines)];
}
