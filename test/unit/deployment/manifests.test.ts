/** The files of `infra/deploy`: they parse, their command lines are ones of qianmo, their rules those of its exit codes. */

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { EXIT_CODE_BY_KIND } from '../../../shared/base/errors.js';
import {
  batchDefinitions,
  composeServices,
  deployedCommands,
  documentsIn,
  KUBERNETES_LIFE,
  DOCKERFILE,
  failingCodesOf,
  containersIn,
  renderedFiles,
  SLURM,
} from '../../deployment/manifests.js';
import { parseOnly } from '../../fixtures/documentation/command-lines.js';
const BUG = 70;
const { environment, interrupted, cancelled, taken } = EXIT_CODE_BY_KIND;
const resumable = [environment, interrupted, taken];
const final = [...new Set(Object.values(EXIT_CODE_BY_KIND)), BUG].filter(
  (code) => !resumable.includes(code),
);
const commands = deployedCommands();
const containers = renderedFiles.flatMap(containersIn);

describe('command lines', () => {
  test.each(commands)('$place: $words', ({ words }) => {
    // A required address comes from the environment there.
    const needsRedis = words[0] === 'worker' || words[0] === 'dashboard';
    parseOnly([...words, ...(needsRedis ? ['--redis', 'redis://queue'] : [])]);
  });

  test('a coordinator can be started again', () => {
    const trained = commands.filter(({ words }) => words[0] === 'train');
    expect(trained.filter(({ words }) => !words.includes('--resume'))).toEqual([]);
  });

  test('no secret is in one', () => {
    const text = JSON.stringify(commands);
    expect(text).not.toMatch(/redis:\/\/|password|--token /i);
  });
});

describe('exit codes', () => {
  test('a Job of Kubernetes fails at once with those that another try does not change', () => {
    const rules = renderedFiles.flatMap(failingCodesOf);
    expect(rules.length).toBe(4);
    for (const codes of rules) expect(codes).toEqual(final.sort((a, b) => a - b));
  });

  test('AWS Batch retries a coordinator with those that can be resumed, and nothing unknown', () => {
    const rules = batchDefinitions()['Coordinator']?.Properties.RetryStrategy.EvaluateOnExit ?? [];
    const retried = rules.flatMap(({ OnExitCode, Action }) =>
      Action === 'RETRY' && OnExitCode !== undefined ? [Number(OnExitCode)] : [],
    );
    expect(retried.sort()).toEqual([...resumable].sort());
  });

  test.each(Object.entries(batchDefinitions()))(
    '%s ends where no rule matches',
    (_name, { Properties }) => {
      expect(Properties.RetryStrategy.EvaluateOnExit.at(-1)).toEqual({
        OnReason: '*',
        Action: 'EXIT',
      });
      expect(Properties.ContainerProperties).toMatchObject({
        User: '10001:10001',
        ReadonlyRootFilesystem: true,
      });
    },
  );

  test('Slurm queues a coordinator again with those that can be resumed', () => {
    const script = readFileSync(SLURM.find((path) => path.includes('coordinator')) ?? '', 'utf8');
    const compared = [...script.matchAll(/\$code == (\d+)/g)].map(([, code]) => Number(code));
    expect(compared.sort()).toEqual([...resumable].sort());
  });
});

test('nothing starts a coordinator again whose run was cancelled', () => {
  expect(resumable).not.toContain(cancelled);
  const { coordinator, worker } = composeServices();
  // To Docker, whatever is not 0 has failed: tini turns this code into 0.
  expect(coordinator).toMatchObject({
    entrypoint: ['tini', '-e', String(cancelled), '--', 'qianmo'],
    restart: 'on-failure:5',
  });
  expect(worker).not.toHaveProperty('entrypoint');
});

describe.each(containers)('$place', ({ pod, container }) => {
  test('needs no rights and writes only to volumes', () => {
    expect(pod).toMatchObject({
      automountServiceAccountToken: false,
      securityContext: {
        ...{ runAsNonRoot: true, runAsUser: 10001, seccompProfile: { type: 'RuntimeDefault' } },
      },
    });
    expect(container.securityContext).toEqual({
      ...{ allowPrivilegeEscalation: false, readOnlyRootFilesystem: true },
      capabilities: { drop: ['ALL'] },
    });
    expect(container.volumeMounts.map(({ mountPath }) => mountPath)).toEqual(
      expect.arrayContaining(['/tmp', '/data']),
    );
    expect(container.resources.limits).toMatchObject({ memory: expect.any(String) as string });
  });

  test('takes its secrets from secrets', () => {
    const written = container.env.filter(
      ({ name, value }) => value !== undefined && /REDIS_URL|SECRET|SIGNING_KEY$|TOKEN/.test(name),
    );
    // The Redis for trials has no password.
    expect(
      written.filter(({ value }) => !/^redis:\/\/qianmo-redis:6379$/.test(value ?? '')),
    ).toEqual([]);
  });

  test('starts on its device or not at all', () => {
    const isOfGpus = container.image.includes('worker-gpu');
    expect(container.args.join(' ').includes('--device gpu')).toBe(isOfGpus);
    expect(JSON.stringify(container.resources.limits ?? {}).includes('nvidia.com/gpu')).toBe(
      isOfGpus,
    );
  });
});

test('the Redis for trials keeps every job until its pod ends', () => {
  const text = JSON.stringify(documentsIn(KUBERNETES_LIFE));
  expect(text).toContain('"redis-server","--appendonly","yes","--maxmemory-policy","noeviction"');
});

describe('images', () => {
  const dockerfile = readFileSync(DOCKERFILE, 'utf8');
  const stages = dockerfile.split(/^FROM /m).slice(1);
  const images = stages.filter((stage) => /^CMD \[/m.test(stage));

  test('the base is an argument, and every image a user without rights', () => {
    expect(dockerfile).toMatch(/^ARG BASE=/m);
    expect(images.map((stage) => /AS (\S+)/.exec(stage)?.[1])).toEqual([
      ...['coordinator', 'server', 'worker', 'worker-gpu'],
    ]);
    for (const stage of images) expect(stage).toMatch(/^USER 10001:10001$/m);
  });
});
