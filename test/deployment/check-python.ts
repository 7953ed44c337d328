/** The Python package as a user installs it: a wheel in an empty environment, its notebook and the programs of its page. */

import { execFileSync } from 'node:child_process';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { projectRoot } from '../../infra/bootstrap/base.mjs';
import { benchOptions } from '../bench/bench-options.js';
import { codeBlocks, pageAt } from '../fixtures/documentation/markdown-page.js';
import { openChecks } from './checks.js';
import { endedWith, run, startProgram } from './programs.js';
import { scratchFolder } from '../bench/scratch-folder.js';

const LOG_BYTE_COUNT_MAX = 64 * 1024 * 1024;

benchOptions(import.meta.url, {});
const checks = openChecks();
const room = scratchFolder('python');
const [node, qianmo] = [process.execPath, join(projectRoot, 'infra/bootstrap/qianmo.mjs')];
const python = join(room, 'venv/bin/python');
const [training = '', ranking = ''] = codeBlocks(
  pageAt(join(projectRoot, 'infra/python/README.md')),
  'python',
);

const environment = { QIANMO: `${node} ${qianmo}` };

/** The cells of a notebook, as far as they are read here. */
const NotebookSchema = z.object({
  cells: z.array(
    z.object({
      outputs: z
        .array(z.object({ data: z.record(z.string(), z.unknown()).optional() }))
        .default([]),
    }),
  ),
});

/** Returns the last table that the notebook shows, as text. */
async function lastTableOf(notebook: string): Promise<string> {
  const execute = join(room, 'venv/bin/jupyter-execute');
  const done = join(room, 'done.ipynb');
  // A notebook reads and writes next to itself.
  cpSync(join(projectRoot, notebook), join(room, 'tour.ipynb'));
  const words = ['--timeout', '-1', '--output', done, join(room, 'tour.ipynb')];
  endedWith(await startProgram(execute, words, { folder: room, environment }).ended, 0);
  const { cells } = NotebookSchema.parse(JSON.parse(readFileSync(done, 'utf8')));
  const tables = cells
    .flatMap(({ outputs }) => outputs)
    .flatMap(({ data }) => (data?.['text/html'] === undefined ? [] : [data['text/plain']]))
    .map((lines) => [z.string().or(z.array(z.string())).parse(lines)].flat().join(''));
  const empty = tables.findIndex((table) => table.startsWith('Empty DataFrame'));
  if (empty >= 0) throw new Error(`table ${empty + 1} of the notebook is empty`);
  return tables.at(-1) ?? '';
}

async function printedBy(program: string, imports = ''): Promise<string> {
  const words = ['-c', imports + program];
  return endedWith(
    await startProgram(python, words, { folder: room, environment }).ended,
    0,
  ).trim();
}

await checks.check('pip wheel and pip install', async () => {
  await run('python3', '-m', 'venv', join(room, 'venv'));
  // The build writes beside the sources.
  cpSync(join(projectRoot, 'infra/python'), join(room, 'sources'), { recursive: true });
  const wheel = ['-m', 'pip', 'wheel', '--no-deps', '--wheel-dir', room];
  await run(python, ...wheel, join(room, 'sources'));
  await run(python, '-m', 'pip', 'install', join(room, 'qianmo-0.1.0-py3-none-any.whl'));
  return 'qianmo-0.1.0-py3-none-any.whl';
});
await checks.check('the notebook, from a DataFrame to a ranking', async () => {
  await run(python, '-m', 'pip', 'install', 'nbclient', 'ipykernel');
  const log = execFileSync(node, [join(projectRoot, 'infra/examples/tutorial/messy-log.mjs')], {
    maxBuffer: LOG_BYTE_COUNT_MAX,
  });
  writeFileSync(join(room, 'clicks.csv'), log);
  const ranking = await lastTableOf('infra/python/tour.ipynb');
  if (!/adgroup +probability\n(\d +AG-\d{4} +0\.\d+\n?){3}$/.test(ranking))
    throw new Error(ranking);
  return ranking.split('\n').slice(1).join(', ');
});
// The notebook has trained the model of the page.
await checks.check('the model of the page', async () => {
  const error = Number((await printedBy(training)).split('\n').at(-1));
  // A fifth of the impressions are clicked; a constant has 0.19.
  if (!(error > 0.1 && error < 0.19)) throw new Error(`squared error ${error}`);
  return `squared error ${error.toFixed(4)}`;
});
await checks.check('a ranking', async () => {
  const bundle = join(room, 'shop/runs/run/bundles');
  const server = startProgram(node, [qianmo, 'serve', '--bundle', bundle, '--port', '0']);
  const [, port = ''] = await server.saw(/rankings: http:\/\/127\.0\.0\.1:(\d+)/);
  try {
    return await printedBy(ranking.replace('8080', port), 'import qianmo\n');
  } finally {
    server.signal('SIGTERM');
    await server.ended;
  }
});
const failures = checks.finish({ title: 'Python', command: 'npm run check -- python' });
process.exitCode = failures === 0 ? 0 : 1;
