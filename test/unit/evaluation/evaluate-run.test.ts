/** The files that a stopped evaluation leaves in the output of its run, and what it reports. */

import { readdir } from 'node:fs/promises';
import { beforeEach, expect, it } from 'vitest';
import type { RunContext } from '../../../coordinator/runs/run-context.js';
import type { PreparedRun } from '../../../coordinator/plan/prepared-run.js';
import { checkpointsOf, specOf } from '../../../coordinator/runs/run-files.js';
import { evaluatedRun } from '../../../coordinator/runs/evaluate-run.js';
import type { QianmoError } from '../../../shared/base/errors.js';
import type { RunEvent } from '../../../shared/events/run-events.js';
import type { EvaluationReport } from '../../../coordinator/scoring/evaluation-report.js';
import { metaParametersDigest } from '../../../shared/models/meta-parameters.js';
import { openedForEach } from '../../fixtures/opened.js';
import { formulaDispatcher } from '../../fixtures/queue/formula-dispatcher.js';
import { formulaConfig, parametersWithBias } from '../../fixtures/evaluation/formula-evaluation.js';
import { runContext } from '../../fixtures/run-context.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';
import { codeOf } from '../../../test/fixtures/told.js';

const store = tinyTaskStore({ taskCount: 40, losses: ['binary', 'binary', 'binary'] });

const folder = openedForEach(temporaryFolder);
let run: PreparedRun;
beforeEach(async () => {
  const config = formulaConfig({
    output: folder.path,
    evaluation: {
      arms: ['constant', 'meta-adapted'],
      innerRates: [0.5],
      innerSteps: [1],
      bootstrapSamples: 100,
      shots: [1, 2],
    },
  });
  run = { config, store, storeAddress: 'memory', spec: specOf(config, store) };
  await checkpointsOf(
    run,
    contextStoppedAt(() => false),
  ).write({
    outerStep: config.training.outerSteps,
    metaParameters: parametersWithBias(config, store, -0.2),
    optimizer: { dense: new Map(), tables: new Map(), scalars: {} },
    computedOn: [],
  });
});

/** Stops, as on Ctrl-C, at the first event that satisfies the predicate. */
function contextStoppedAt(isLast: (event: RunEvent) => boolean): RunContext {
  const abort = new AbortController();
  return runContext({
    sink: (event) => isLast(event) && abort.abort(),
    signal: abort.signal,
  });
}

async function evaluated(isLast: (event: RunEvent) => boolean): Promise<unknown> {
  const dispatch = { dispatcher: formulaDispatcher(store), redisUrl: null };
  return evaluatedRun(run, dispatch, { fresh: false }, contextStoppedAt(isLast)).catch(
    (error: unknown) => error,
  );
}

async function outputFiles(): Promise<string[]> {
  const entries = await readdir(folder.path, { withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map(({ name }) => name)
    .sort();
}

const FILES_OF_A_SEGMENT = [...['evaluation.json', 'report.html', 'test-logits.safetensors']];

it('an evaluation that is stopped after the report of a segment says which reports exist', async () => {
  const failure = await evaluated((event) => event.kind === 'report-written');
  expect((failure as QianmoError).report).toMatchObject({
    kind: 'interrupted',
    what: 'the evaluation was stopped; reports of these segments were written: segment0; none of these: segment1, segment2',
  });
  expect(await outputFiles()).toEqual(
    FILES_OF_A_SEGMENT.map((file) => file.replace('.', '-segment0.')),
  );
});

it('an evaluation of a run whose method is global takes what the run has learned as its global arm, and trains nothing', async () => {
  const { evaluation } = run.config;
  const config = formulaConfig({
    output: folder.path,
    method: { kind: 'global' },
    evaluation: { ...evaluation, arms: ['global', 'finetuned'], shots: undefined },
  });
  run = { ...run, config, spec: specOf(config, store) };
  const metaParameters = parametersWithBias(config, store, -0.2);
  await checkpointsOf(
    run,
    contextStoppedAt(() => false),
  ).write({
    ...{ outerStep: config.training.outerSteps, metaParameters },
    optimizer: { dense: new Map(), tables: new Map(), scalars: {} },
    computedOn: [],
  });
  const told: string[] = [];
  const [report] = (await evaluated((event) => {
    told.push(codeOf(event));
    return false;
  })) as EvaluationReport[];
  expect(told).not.toContain('global-arm-started');
  expect(report?.run.globalDigest).toBe(metaParametersDigest(metaParameters));
  expect(report?.arms).toContain('finetuned');
});
