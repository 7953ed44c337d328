/** The scripts for Slurm as processes, with programs in the place of Slurm's that note how they are called. */

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { delimiter, join, resolve } from 'node:path';
import type { Checks } from '../checks.js';
import { DEPLOY } from '../manifests.js';
import { endedWith, startProgram, type RunningProgram } from '../programs.js';
import { COMMAND, writeRun, type Place } from './command-lines.js';

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

export async function checkSlurm({ check }: Checks, place: Place): Promise<void> {
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
