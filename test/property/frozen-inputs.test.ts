/**
 * A job whose frozen part is cached gives the same bits as a job that is sent everything. Seen to
 * fail: inputs kept regardless of their content, evicted inputs that are not disposed, tables in
 * another order.
 */

import { describe, expect, it } from 'vitest';
import { encodeDense, encodeFrozen, encodeUnchanging } from '../../coordinator/plan/step-orders.js';
import type { JobInput } from '../../shared/queue/job-executor.js';
import { modelSpecOf, type ModelSpec } from '../../shared/models/model-spec.js';
import { blobRefOf } from '../../shared/storage/blob-store.js';
import { decodeTensors, encodeTensors } from '../../shared/tensors/tensor-codec.js';
import { createExecutor } from '../../worker/compute/job/create-executor.js';
import {
  type CaseWork,
  namedSum,
  jobCaseOf,
  jobInputOf,
  type JobCase,
} from '../fixtures/compute/compute-inputs.js';
import { methodOf } from '../fixtures/compute/methods.js';
import { openedOnce } from '../fixtures/opened.js';
import { tinyTaskStore } from '../fixtures/stores/tiny-task-store.js';
import { expectFailureOf } from '../fixtures/failures.js';

const store = tinyTaskStore({
  taskCount: 6,
  bags: [
    { rowCount: 40, lengthMax: 3 },
    { rowCount: 500, lengthMax: 2 },
  ],
});
const taskIndices = store.tasks.map(({ taskIndex }) => taskIndex);
const taskWeights = taskIndices.map((place) => 0.1 + 0.03 * place);
const [attribute = '', generated = ''] = store.manifest.features.map(({ name }) => name);

const base = { kind: 'deepfm', embeddingWidth: 3, hiddenWidths: [5, 4] };
const generator = methodOf({
  kind: 'meta-embedding',
  attributes: [attribute],
  innerRate: 0.1,
});
const fomaml = methodOf({ kind: 'fomaml', innerSteps: 2, innerRate: 0.1 });
const personal = ['bias', 'layer1', 'output'];

interface FrozenCase {
  readonly model: object;
  readonly method: ReturnType<typeof methodOf>;
  /** The form of `training.trainable`. */
  readonly trainable?: readonly string[];
  readonly holdsTables: boolean;
}

const cases: Record<string, FrozenCase> = {
  'a generator on a frozen base': {
    model: { ...base, personal: [], generated },
    method: generator,
    holdsTables: true,
  },
  'layers on frozen tables': {
    model: { ...base, personal },
    method: fomaml,
    trainable: ['layer0', 'layer1', 'output'],
    holdsTables: true,
  },
  'one table with frozen ones, differentiated through a step': {
    model: { ...base, personal: ['bias', 'output'] },
    method: methodOf({ kind: 'posterior' }),
    trainable: [generated, 'output'],
    holdsTables: false,
  },
  'a table alone, without inner loop': {
    model: { ...base, personal: [] },
    method: methodOf({ kind: 'global' }),
    trainable: [generated],
    holdsTables: false,
  },
  'nothing at all': {
    model: { ...base, personal: [] },
    method: methodOf({ kind: 'global' }),
    trainable: [],
    holdsTables: true,
  },
};

const executor = openedOnce(() => createExecutor({ openStore: () => Promise.resolve(store) }));

/** The same job with the frozen part separate. */
function withFrozen(
  input: JobInput,
  jobCase: JobCase,
  { method, trainable }: FrozenCase,
  holdsTables: boolean,
): JobInput {
  const spec = modelSpecOf(jobCase.model, store.manifest.features, method, trainable);
  const frozen = encodeFrozen(jobCase.meta, spec, holdsTables ? 1e9 : 0);
  if (frozen === null) throw new Error('something is frozen');
  expect(frozen.holdsTables).toBe(holdsTables);
  const { job } = input;
  const dense = encodeDense(jobCase.meta, spec.learned.variables);
  const { variables, tables } = spec.learned;
  const { rowPack: packRef, ...rest } = job;
  return {
    job: {
      ...rest,
      ...(holdsTables || packRef === undefined ? {} : { rowPack: packRef }),
      dense: blobRefOf(dense),
      frozen: blobRefOf(frozen.bytes),
      work:
        job.work.kind === 'gradient'
          ? { ...job.work, learned: { variables: [...variables], tables: [...tables] } }
          : job.work,
    },
    dense,
    rowPack: holdsTables ? null : input.rowPack,
    frozen: frozen.bytes,
  };
}

function bitsOf(output: Uint8Array): Map<string, string> {
  return new Map(
    [...decodeTensors(output, 'output')].map(([name, { values }]) => [
      name,
      Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString('hex'),
    ]),
  );
}

/** Those of a gradient by variable, of its rows and of its losses. */
function gradientBitsOf(output: Uint8Array, spec: ModelSpec): Map<string, string> {
  const tensors = decodeTensors(output, 'output');
  const floats = (name: string): Float32Array => {
    const values = tensors.get(name)?.values;
    if (values instanceof Float32Array) return values;
    throw new Error(`no floats ${name}`);
  };
  const named = namedSum({ dense: floats('0.dense'), rows: floats('0.rows') }, spec);
  for (const name of ['losses.query', 'losses.support']) named.set(name, floats(name));
  const coded = [...named].map(
    ([name, values]) => [name, { shape: [values.length], values }] as const,
  );
  return bitsOf(encodeTensors(new Map(coded)));
}

function workOf({ method }: FrozenCase): CaseWork {
  return { kind: 'gradient', method, taskWeights, coldTaskWeights: taskWeights };
}

describe.each(Object.entries(cases))('%s', (_, frozenCase) => {
  const { model, method, holdsTables } = frozenCase;
  const jobCase = jobCaseOf(store, model, 5, method);

  it.each(holdsTables ? [true, false] : [false])(
    'has the same gradient when the frozen part is cached (tables whole: %s)',
    async (isWhole) => {
      const input = await jobInputOf(jobCase, taskIndices, workOf(frozenCase));
      const all = await executor.execute(input);
      const apart = await executor.execute(withFrozen(input, jobCase, frozenCase, isWhole));
      const spec = modelSpecOf(
        jobCase.model,
        store.manifest.features,
        method,
        frozenCase.trainable,
      );
      const expected = gradientBitsOf(all.output, jobCase.spec);
      const found = gradientBitsOf(apart.output, spec);
      const same = [...spec.learned.variables, 'losses.query', 'losses.support'];
      expect([...found.keys()].sort()).toEqual([...same, 'rows'].sort());
      for (const name of same) expect(found.get(name)).toBe(expected.get(name));
      // Rows of trained tables in the order of the pack, as hex of whole rows.
      const rows = found.get('rows') ?? '';
      expect(expected.get('rows')).toContain(rows);
      expect(rows.length > 0).toBe(spec.learned.tables.length > 0);
    },
  );
});

const adaptation = { innerRate: 0.2, innerSteps: 2 };
const unchanging: Record<string, { model: object; work: CaseWork }> = {
  'predictions of query rows': {
    model: { ...base, personal },
    work: {
      ...{ kind: 'predict', method: fomaml, rows: 'query' },
      adaptations: [{ ...adaptation, innerSteps: 0 }, adaptation],
    },
  },
  'predictions of support rows': {
    model: { ...base, personal },
    work: {
      ...{ kind: 'predict', method: methodOf({ kind: 'global' }), rows: 'support' },
      adaptations: [adaptation],
    },
  },
  'predictions of a generator': {
    model: { ...base, personal: [], generated },
    work: { kind: 'predict', method: generator, rows: 'query', adaptations: [adaptation] },
  },
  'adapted tasks': {
    model: { ...base, personal },
    work: { kind: 'adapt', method: fomaml, rows: 'support', adaptation },
  },
};

describe.each(Object.entries(unchanging))('%s', (_, { model, work }) => {
  const jobCase = jobCaseOf(store, model, 6, work.method);

  it.each([true, false])(
    'have the same bits when nothing changes (tables whole: %s)',
    async (isWhole) => {
      const input = await jobInputOf(jobCase, taskIndices, work);
      const bounds = { tablesByteCountMax: isWhole ? 1e9 : 0, rowsRead: 1e9 };
      const frozen = encodeUnchanging(jobCase.meta, jobCase.spec.tableRowWidth, bounds);
      expect(frozen.holdsTables).toBe(isWhole);
      const dense = encodeDense(jobCase.meta, []);
      const { rowPack: packRef, ...rest } = input.job;
      const job = {
        ...rest,
        ...(isWhole || packRef === undefined ? {} : { rowPack: packRef }),
        dense: blobRefOf(dense),
        frozen: blobRefOf(frozen.bytes),
      };
      const rowPack = isWhole ? null : input.rowPack;
      const all = await executor.execute(input);
      const apart = await executor.execute({ job, dense, rowPack, frozen: frozen.bytes });
      expect(bitsOf(apart.output)).toEqual(bitsOf(all.output));
    },
  );
});

it('tables with more rows than the jobs read are sent as row packs', () => {
  const { meta, spec } = jobCaseOf(store, { ...base, personal });
  const rowCount = spec.tables.reduce((sum, table) => sum + table.rowCount, 0);
  const holdsTables = (rowsRead: number): boolean =>
    encodeUnchanging(meta, spec.tableRowWidth, { tablesByteCountMax: 1e9, rowsRead }).holdsTables;
  expect([rowCount - 1, rowCount].map(holdsTables)).toEqual([false, true]);
});

describe('cached frozen inputs', () => {
  const frozenCase = cases['a generator on a frozen base']!;
  const inputOf = async (seed: number): Promise<JobInput> => {
    const jobCase = jobCaseOf(store, frozenCase.model, seed, frozenCase.method);
    const input = await jobInputOf(jobCase, taskIndices, workOf(frozenCase));
    return withFrozen(input, jobCase, frozenCase, true);
  };

  it('are distinguished, and recreated after eviction', async () => {
    const inputs = await Promise.all([11, 12, 13, 14].map(inputOf));
    const alone: Map<string, string>[] = [];
    for (const input of inputs) alone.push(bitsOf((await executor.execute(input)).output));
    expect(new Set(alone.map((output) => output.get('0.dense'))).size).toBe(4);
    const { tf } = executor.engine;
    const heldCount = tf.memory().numTensors;
    for (let turn = 0; turn < 3; turn += 1)
      for (const [place, input] of inputs.entries())
        expect(bitsOf((await executor.execute(input)).output)).toEqual(alone[place]);
    expect(tf.memory().numTensors).toBe(heldCount);
  });

  it('must match the model together with what is sent', async () => {
    const input = await inputOf(15);
    const nothing = encodeTensors(new Map());
    await expectFailureOf(executor.execute({ ...input, dense: nothing }), 'data', {
      found: 'generator.weight is missing',
    });
    const { frozen: _ref, ...job } = input.job;
    await expect(executor.execute({ ...input, job, frozen: null })).rejects.toMatchObject({
      kind: 'data',
    });
    const learned = { variables: ['bias'], tables: [] };
    const ofJob = input.job.work;
    if (ofJob.kind !== 'gradient') throw new Error('expected a gradient job');
    const work = { ...ofJob, learned };
    await expectFailureOf(executor.execute({ ...input, job: { ...input.job, work } }), 'data', {
      found: 'bias',
    });
  });
});
