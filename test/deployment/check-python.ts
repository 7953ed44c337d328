/** The Python package as a user installs it: a wheel in an empty environment, and the programs of its page. */

import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { projectRoot } from '../../infra/bootstrap/base.mjs';
import { benchOptions } from '../bench/bench-options.js';
import { codeBlocks, pageAt } from '../fixtures/documentation/markdown-page.js';
import { openChecks } from './checks.js';
import { endedWith, run, startProgram } from './programs.js';

const LOG_BYTE_COUNT_MAX = 64 * 1024 * 1024;

benchOptions(import.meta.url, {});
const checks = openChecks();
const room = mkdtempSync(join(tmpdir(), 'qianmo-python-'));
const [node, qianmo] = [process.execPath, join(projectRoot, 'infra/bootstrap/qianmo.mjs')];
const python = join(room, 'venv/bin/python');
const [training = '', ranking = ''] = codeBlocks(
  pageAt(join(projectRoot, 'infra/python/README.md')),
  'python',
);

async function printedBy(program: string, imports = ''): Promise<string> {
  const environment = { QIANMO: `${node} ${qianmo}` };
  const words = ['-c', imports + program];
  return endedWith(
    await startProgram(python, words, { folder: room, environment }).ended,
    0,
  ).trim();
}

try {
  await checks.check('pip wheel and pip install', async () => {
    await run('python3', '-m', 'venv', join(room, 'venv'));
    // The build writes beside the sources.
    cpSync(join(projectRoot, 'infra/python'), join(room, 'sources'), { recursive: true });
    const wheel = ['-m', 'pip', 'wheel', '--no-deps', '--wheel-dir', room];
    await run(python, ...wheel, join(room, 'sources'));
    await run(python, '-m', 'pip', 'install', join(room, 'qianmo-0.1.0-py3-none-any.whl'));
    return 'qianmo-0.1.0-py3-none-any.whl';
  });
  await checks.check('from a DataFrame to a model', async () => {
    const log = execFileSync(node, [join(projectRoot, 'infra/examples/tutorial/messy-log.mjs')], {
      maxBuffer: LOG_BYTE_COUNT_MAX,
    });
    writeFileSync(join(room, 'clicks.csv'), log);
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
} finally {
  rmSync(room, { recursive: true, force: true });
}
const failures = checks.finish({ title: 'Python', command: 'npm run check -- python' });
process.exitCode = failures === 0 ? 0 : 1;
