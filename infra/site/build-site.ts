/** `npm run docs:site`: builds the documentation as a site in dist/site/html. */

import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import {
  BootstrapError,
  cacheRoot,
  digestOf,
  failWith,
  projectRoot,
  publishFolder,
  runCommand,
  runStep,
  say,
} from '#bootstrap/base.mjs';
import { EXIT_CODE_BY_KIND, formatFailure, QianmoError } from '../../shared/base/errors.js';
import { integer } from '../../coordinator/runs/request-fields.js';
import { byteCountOf, faultsOf, siteFiles } from './built-site.js';
import { stageSite } from './stage-site.js';

const PACKAGE_FILES = ['package.json', 'package-lock.json'];
const INSTALL_TIMEOUT_MS = 10 * 60_000;
const BUILD_TIMEOUT_MS = 10 * 60_000;
const FAULTS_SHOWN_MAX = 20;
const PORT_MAX = 65_535;

const site = join(projectRoot, 'dist/site');
const staged = join(site, 'pages');
const built = join(site, 'html');
const vitepress = join(site, 'node_modules/vitepress/bin/vitepress.js');

const USAGE = `npm run docs:site builds the documentation as a site in dist/site/html.

Options:
  --base VALUE          path of the site on its server [/]
  --serve               shows it on the loopback address
  --port VALUE          where --serve listens [4173]
  --help                prints this

Examples:
  npm run docs:site
`;

interface SiteOptions {
  readonly base: string;
  readonly serve: boolean;
  readonly port: number;
}

/** Ends the process after `--help`, and at a wrong option with the exit code of a usage error. */
function optionsOf(): SiteOptions {
  try {
    const { values } = parseArgs({
      options: {
        base: { type: 'string', default: '/' },
        serve: { type: 'boolean', default: false },
        port: { type: 'string', default: '4173' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    if (values.help) {
      process.stdout.write(USAGE);
      process.exit(0);
    }
    const port = integer(1, PORT_MAX).safeParse(Number(values.port));
    if (port.success) return { ...values, port: port.data };
    const expected = `a whole number from 1 to ${PORT_MAX}`;
    endAsUsageError({ what: '--port cannot have this value', expected, found: values.port });
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    endAsUsageError({ what: error.message });
  }
}

function endAsUsageError(
  report: Pick<QianmoError['report'], 'what' | 'expected' | 'found'>,
): never {
  const cure = '`npm run docs:site -- --help` lists the options';
  const failure = new QianmoError({ kind: 'usage', ...report, where: 'docs:site', cure });
  process.stderr.write(`${formatFailure(failure)}\n`);
  process.exit(EXIT_CODE_BY_KIND.usage);
}

async function main(): Promise<void> {
  const values = optionsOf();
  const base = `/${values.base}/`.replace(/\/+/g, '/');
  await runStep('VitePress', install);
  await runStep('pages', () => {
    return { state: 'ok', note: String(stageSite(projectRoot, staged, base)) };
  });
  await runStep('site', build);
  await runStep('links and origins', () => check(base));
  say(`the site is in ${built}; npm run docs:site -- --serve shows it`);
  if (values.serve) await serve(values.port);
}

type Step = Parameters<typeof runStep>[1];

/** VitePress in the cache, which all checkouts share, and a link to it beside the pages. */
const install: Step = async (announce) => {
  const from = join(projectRoot, 'infra/site/vitepress');
  const lock = readFileSync(join(from, 'package-lock.json'), 'utf8');
  const home = join(cacheRoot(), `vitepress-${digestOf(lock).slice(0, 12)}`);
  const isThere = existsSync(home);
  if (!isThere) {
    announce('installing (about 15 s)');
    await publishFolder(home, async (folder) => {
      mkdirSync(folder, { recursive: true });
      for (const name of PACKAGE_FILES) copyFileSync(join(from, name), join(folder, name));
      const args = ['ci', '--ignore-scripts', '--no-audit', '--no-fund'];
      const installed = await runCommand('npm', args, {
        cwd: folder,
        timeoutMs: INSTALL_TIMEOUT_MS,
      });
      if (!installed.ok)
        throw new BootstrapError(`VitePress could not be installed: ${installed.problem}`, [
          'check that `npm ping` answers, then run the same command again',
        ]);
    });
  }
  mkdirSync(site, { recursive: true });
  rmSync(join(site, 'node_modules'), { force: true });
  symlinkSync(join(home, 'node_modules'), join(site, 'node_modules'));
  return { state: 'ok', note: isThere ? 'in the cache' : 'installed' };
};

const build: Step = async (announce) => {
  announce('building (about 20 s)');
  const result = await runCommand(
    process.execPath,
    [vitepress, 'build', staged, '--outDir', built],
    {
      cwd: site,
      timeoutMs: BUILD_TIMEOUT_MS,
    },
  );
  if (!result.ok)
    throw new BootstrapError(`VitePress ended with ${result.problem}\n${result.output}`, [
      'correct the page that it names, then run the same command again',
    ]);
  return { state: 'ok', note: `${(byteCountOf(built) / 2 ** 20).toFixed(1)} MiB` };
};

function check(base: string): ReturnType<Step> {
  const faults = faultsOf(siteFiles(built), base);
  if (faults.length > 0)
    throw new BootstrapError(
      [`the site has ${faults.length} faults:`, ...faults.slice(0, FAULTS_SHOWN_MAX)].join('\n  '),
      ['correct these links in the pages, then run the same command again'],
    );
  return { state: 'ok', note: 'every link leads somewhere, nothing is fetched from elsewhere' };
}

async function serve(port: number): Promise<void> {
  const args = [vitepress, 'preview', staged, '--outDir', built, '--port', String(port)];
  await once(spawn(process.execPath, args, { stdio: 'inherit' }), 'exit');
}

try {
  await main();
} catch (error) {
  failWith(error);
}
