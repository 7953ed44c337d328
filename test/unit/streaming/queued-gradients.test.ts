/** Meta-gradients as jobs: the same phi as in one process, and no trust in what comes back. */

import { describe, expect, test } from 'vitest';
import { createInMemoryDispatcher } from '../../../coordinator/dispatch/in-memory-dispatcher.js';
import {
  computeInProcess,
  type GradientComputer,
  metaTrainRule,
} from '../../../coordinator/streaming/meta-training.js';
import { DivergenceError } from '../../../shared/base/errors.js';
import { windowPairGradient } from '../../../shared/streaming/window-pair-gradient.js';
import { queuedGradients } from '../../../coordinator/streaming/queued-gradients.js';
import { ComputeConfigSchema } from '../../../shared/config/compute-config.js';
import type { JobExecutor, JobInput, JobOutput } from '../../../shared/queue/job-executor.js';
import { jobSchemaFor, type RuleJob } from '../../../shared/queue/protocol.js';
import { parametersLikeAdagrad } from '../../../shared/streaming/learned-update-parameters.js';
import { encodeRuleGradient } from '../../../shared/streaming/window-pair-codec.js';
import { ruleJobOutput } from '../../../worker/compute/job/rule-gradient-job.js';
import { instantClock } from '../../fixtures/clocks/instant-clock.js';
import { smallPair, smallRule, smallStream } from '../../fixtures/small-stream.js';

const rows = smallStream({ seed: 17, rowCount: 120, featuresPerSlot: 6 });
const rule = smallRule(1, rows, 2);
const pairs = [3, 4, 5].map((seed) => smallPair(seed, rows, rule));
const settings = { batchRows: 2, query: 'progressive' } as const;

function computed(input: JobInput): JobOutput {
  const { job } = input;
  if ('store' in job) throw new Error('only rule-gradient jobs are known here');
  return {
    ...ruleJobOutput({ ...input, job }, instantClock()),
    ...{ backend: 'test', fingerprint: 'test-01234567' },
  };
}

function scene(execute: (input: JobInput) => JobOutput = computed) {
  const inputs: JobInput[] = [];
  const executor: JobExecutor = {
    execute: async (input) => {
      inputs.push(input);
      return Promise.resolve(execute(input));
    },
    close: () => Promise.resolve(),
  };
  const dispatcher = createInMemoryDispatcher({
    ...{ executors: [executor], clock: instantClock(), attemptsMax: 3, sink: () => undefined },
  });
  const compute = queuedGradients({
    dispatcher,
    runId: 'small',
    compute: ComputeConfigSchema.parse({ fingerprint: 'test-01234567' }),
    queue: { jobTimeoutMs: 5_000, blobLifetimeMs: 9_000 },
    signal: new AbortController().signal,
  });
  return { inputs, dispatcher, compute };
}

describe('gradients over a dispatcher', () => {
  test('are those of one process, a job for each pair', async () => {
    const { inputs, compute } = scene();
    const there = await compute(rule.shape, rule.parameters, pairs, settings);
    expect(there).toEqual(await computeInProcess(rule.shape, rule.parameters, pairs, settings));
    await compute(rule.shape, rule.parameters, pairs.slice(0, 1), settings);
    expect(inputs.map(({ job }) => [job.outerStep, job.jobIndex])).toEqual([
      [0, 0],
      [0, 1],
      [0, 2],
      [1, 0],
    ]);
    for (const { job } of inputs)
      expect(jobSchemaFor(job).parse(JSON.parse(JSON.stringify(job)))).toEqual(job);
    expect(inputs[0]?.job).toMatchObject({
      ...{ runId: 'small', device: 'auto', portable: false, fingerprint: 'test-01234567' },
      ...{ timeoutMs: 5_000, blobLifetimeMs: 9_000 },
      work: { kind: 'rule-gradient', shape: rule.shape, settings },
    });
    // Phi is one blob for all jobs of a step, each pair another.
    expect(inputs[1]?.job.dense).toEqual(inputs[0]?.job.dense);
    expect(inputs[1]?.job.rowPack).not.toEqual(inputs[0]?.job.rowPack);
  });

  test('train the phi of one process', async () => {
    const start = {
      ...rule,
      parameters: parametersLikeAdagrad(rule.shape, { rate: 0.1, initialSum: 1 }),
    };
    const training = {
      ...{ ...settings, seed: 3, priorRowCount: 120, judgedFromRow: 30, windowRows: 20 },
      ...{ epochCount: 2, pairsPerStep: 2, rate: 0.1 },
    };
    const here = await metaTrainRule(start, rows, training);
    const there = await metaTrainRule(start, rows, training, { compute: scene().compute });
    expect(there).toEqual(here);
  });

  test('are asked for again when a worker returns none of this shape', async () => {
    let isFirst = true;
    const { inputs, dispatcher, compute } = scene((input) => {
      const output = computed(input);
      if (!isFirst) return output;
      isFirst = false;
      return {
        ...output,
        output: encodeRuleGradient({ gradient: new Float64Array(3), lossSum: 1 }),
      };
    });
    const there = await compute(rule.shape, rule.parameters, pairs, settings);
    expect(there).toEqual(await computeInProcess(rule.shape, rule.parameters, pairs, settings));
    expect(inputs).toHaveLength(4);
    expect(dispatcher.rejections.get('layout_mismatch')).toBe(1);
  });

  test('that are not finite are asked for again, and end the stream as diverged', async () => {
    const { dispatcher, compute } = scene((input) => {
      const spoilt = new Float64Array(rule.parameters.length).fill(1, 1).fill(Number.NaN, 0, 1);
      return { ...computed(input), output: encodeRuleGradient({ gradient: spoilt, lossSum: 1 }) };
    });
    const computing = compute(rule.shape, rule.parameters, pairs, settings);
    await expect(computing).rejects.toThrow(DivergenceError);
    // The other jobs of the gradient are asked for as often, at most.
    expect(dispatcher.rejections.get('not_finite')).toBeGreaterThanOrEqual(3);
  });
});

describe('a rule that diverges', () => {
  test('says so in one process, in a gradient and in a pair', async () => {
    const training = {
      ...{ ...settings, seed: 3, priorRowCount: 120, judgedFromRow: 30, windowRows: 20 },
      ...{ epochCount: 1, pairsPerStep: 2, rate: 0.1 },
    };
    const compute: GradientComputer = async (shape, parameters, ...rest) => {
      const [first, ...others] = await computeInProcess(shape, parameters, ...rest);
      const gradient = new Float64Array(parameters.length).fill(Infinity);
      return [{ ...first!, gradient }, ...others];
    };
    const diverging = metaTrainRule(rule, rows, training, { compute });
    await expect(diverging).rejects.toThrow(DivergenceError);
    const spoilt = { ...pairs[0]!, embedding: pairs[0]!.embedding.map(() => Number.NaN) };
    expect(() => windowPairGradient(rule.shape, rule.parameters, spoilt, settings)).toThrow(
      /diverged/,
    );
  });
});

describe('a rule-gradient job', () => {
  test('is refused by a worker whose JavaScript may round otherwise', async () => {
    const { inputs, compute } = scene();
    await compute(rule.shape, rule.parameters, pairs, settings);
    const [input] = inputs;
    if (input === undefined || 'store' in input.job) throw new Error('no rule-gradient job');
    const job: RuleJob = {
      ...input.job,
      work: { ...input.job.work, arithmetic: 'V8 1.0 on vax' },
    };
    expect(() => ruleJobOutput({ ...input, job }, instantClock())).toThrow(
      expect.objectContaining({
        report: expect.objectContaining({
          ...{ isOfThisMachine: true, expected: 'V8 1.0 on vax' },
        }) as object,
      }),
    );
  });

  test('has no tasks of a store, and a job on tasks has a store', async () => {
    const { inputs, compute } = scene();
    await compute(rule.shape, rule.parameters, pairs, settings);
    const job = inputs[0]?.job;
    expect(jobSchemaFor(job).safeParse({ ...job, taskIndices: [1] }).success).toBe(false);
    expect(jobSchemaFor(job).safeParse({ ...job, rowPack: undefined }).success).toBe(false);
    expect(jobSchemaFor(job).safeParse({ ...job, frozen: job?.dense }).success).toBe(false);
    const work = { kind: 'gradient', method: { kind: 'global' }, taskWeights: [1] };
    expect(jobSchemaFor(job).safeParse({ ...job, work }).success).toBe(false);
  });
});
