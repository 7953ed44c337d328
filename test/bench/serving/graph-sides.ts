/** The bench's model on TensorFlow: one captured graph for all candidates, and one GraphModel per adgroup. */

import { createRequire } from 'node:module';
import type * as tfjs from '@tensorflow/tfjs';
import { at } from '../../../shared/base/arrays.js';
import { blockBytes, readBlock } from '../../../shared/bundle/block-codec.js';
import type { RankingModel } from '../../../shared/bundle/ranking-model.js';
import { capture } from '../../../worker/compute/engine/capture/capture.js';
import type { Engine } from '../../../worker/compute/engine/load-engine.js';
import type { RankingRequest } from '../../../worker/serving/ranking-request.js';
import { CANDIDATE_COUNT, CONTEXT_FEATURES } from './kernel-setting.js';

const WIDTH = 16;
const ROW_WIDTH = WIDTH + 1;
const CANDIDATE_FIELDS = 4;
const FIELDS = CONTEXT_FEATURES.length + CANDIDATE_FIELDS;

export type Score = (request: RankingRequest, logits: Float32Array) => void;

/** All tables below each other, and the first row of each. */
export function joinedTables({ tables }: Pick<RankingModel, 'tables'>): {
  readonly values: Float32Array;
  readonly firstRows: readonly number[];
} {
  const all = [...tables.values()];
  const values = new Float32Array(all.reduce((sum, table) => sum + table.values.length, 0));
  let end = 0;
  const firstRows = all.map((table) => {
    values.set(table.values, end * ROW_WIDTH);
    end += table.rowCount;
    return end - table.rowCount;
  });
  return { values, firstRows };
}

/** Ids as rows of the joined tables. */
export function joinedIds(
  firstRows: readonly number[],
  request: RankingRequest,
): {
  readonly context: Int32Array;
  readonly rows: Int32Array;
} {
  const contextCount = CONTEXT_FEATURES.length;
  return {
    context: request.contextIds.map((id, field) => id + at(firstRows, field)),
    rows: request.candidateIds.map(
      (id, place) => id + at(firstRows, contextCount + (place % CANDIDATE_FIELDS)),
    ),
  };
}

/** Blocks in float32, `[blockCount, stride in floats]`. */
export function joinedBlocks({ blocks }: RankingModel): Float32Array {
  const floats = new Float32Array((blocks.blockCount * blocks.layout.strideByteCount) / 4);
  let end = 0;
  for (const { buffer, byteOffset, byteLength } of blocks.shards) {
    floats.set(new Float32Array(buffer, byteOffset, byteLength / 4), end);
    end += byteLength / 4;
  }
  return floats;
}

/** Where a part begins in a block, in floats. */
export function floatOffset({ blocks }: RankingModel, name: string): number {
  const part = blocks.layout.parts.find((each) => each.name === name);
  if (part?.encoding !== 'float32') throw new Error(`no part ${name} in float32`);
  return part.byteOffset / 4;
}

/**
 * Rows and blocks are gathered, and the context multiplied once, in one native call. The ids are those
 * of the joined tables.
 */
export function capturedGraph(
  engine: Engine,
  model: RankingModel,
  joined: ReturnType<typeof joinedTables>,
): Score {
  const { tf, kernels } = engine;
  const kept = (values: Float32Array, shape: [number, number]): tfjs.Tensor2D =>
    tf.keep(tf.tensor2d(values, shape));
  const dense = (name: string): Float32Array => model.dense.get(name)?.values ?? new Float32Array();
  const first = dense('layer0.weight');
  const contextWidth = CONTEXT_FEATURES.length * WIDTH;
  const stride = model.blocks.layout.strideByteCount / 4;
  const weights = {
    tables: kept(joined.values, [joined.values.length / ROW_WIDTH, ROW_WIDTH]),
    blocks: kept(joinedBlocks(model), [model.blocks.blockCount, stride]),
    context: kept(first.slice(0, contextWidth * 128), [contextWidth, 128]),
    candidate: kept(first.slice(contextWidth * 128), [(FIELDS + 1) * WIDTH - contextWidth, 128]),
    bias0: kept(dense('layer0.bias'), [1, 128]),
    weight1: kept(dense('layer1.weight'), [128, 64]),
    bias1: kept(dense('layer1.bias'), [1, 64]),
  };
  const [embeddingAt, outputAt] = ['adgroupEmbedding', 'output.weight'].map((name) =>
    floatOffset(model, name),
  ) as [number, number];
  const compute = (input: typeof weights & Ids): tfjs.Tensor => {
    const context = kernels.gatherRows(input.tables, input.contextIds);
    const rows = kernels.gatherRows(input.tables, input.rowIds);
    const own = kernels.gatherRows(input.blocks, input.blockIds);
    const vectorsOf = (x: tfjs.Tensor2D): tfjs.Tensor2D => tf.slice(x, [0, 0], [-1, WIDTH]);
    const linearOf = (x: tfjs.Tensor2D): tfjs.Tensor2D => tf.slice(x, [0, WIDTH], [-1, 1]);
    const shared = vectorsOf(context);
    const embedding = tf.slice(own, [0, embeddingAt], [-1, WIDTH]);
    const candidate = tf.reshape<tfjs.Rank.R2>(vectorsOf(rows), [CANDIDATE_COUNT, -1]);
    const x = tf.concat([candidate, embedding], 1);
    const start = tf.add(
      tf.matMul(tf.reshape<tfjs.Rank.R2>(shared, [1, contextWidth]), input.context),
      input.bias0,
    );
    const hidden = kernels.relu(tf.add(tf.matMul(x, input.candidate), start));
    const last = kernels.relu(
      tf.add(tf.matMul(hidden as tfjs.Tensor2D, input.weight1), input.bias1),
    );
    const output = tf.sum(tf.mul(last, tf.slice(own, [0, outputAt], [-1, 64])), 1);
    const fields = tf.reshape(x, [CANDIDATE_COUNT, CANDIDATE_FIELDS + 1, WIDTH]);
    const sum = tf.add(tf.sum(fields, 1), tf.sum(shared, 0, true));
    const squares = tf.add(tf.sum(tf.square(x), 1), tf.sum(tf.square(shared)));
    const pairs = tf.mul(tf.sub(tf.sum(tf.square(sum), 1), squares), 0.5);
    const linear = tf.add(
      tf.sum(tf.reshape(linearOf(rows), [CANDIDATE_COUNT, CANDIDATE_FIELDS]), 1),
      tf.sum(linearOf(context)),
    );
    const bias = tf.reshape(tf.slice(own, [0, floatOffset(model, 'bias')], [-1, 1]), [
      CANDIDATE_COUNT,
    ]);
    return tf.add(tf.add(tf.add(output, pairs), linear), bias);
  };
  const idsOf = (context: Int32Array, rows: Int32Array, blocks: Int32Array): Ids => ({
    contextIds: tf.tensor1d(context, 'int32'),
    rowIds: tf.tensor1d(rows, 'int32'),
    blockIds: tf.tensor1d(blocks, 'int32'),
  });
  const example = idsOf(
    new Int32Array(CONTEXT_FEATURES.length),
    new Int32Array(CANDIDATE_COUNT * CANDIDATE_FIELDS),
    new Int32Array(CANDIDATE_COUNT),
  );
  const captured = capture(engine, compute, { ...weights, ...example }, { name: 'the bench' });
  return (request, logits) => {
    tf.tidy(() => {
      const { context, rows } = joinedIds(joined.firstRows, request);
      const found = captured.run({ ...weights, ...idsOf(context, rows, request.blocks) });
      logits.set(found.dataSync<'float32'>());
    });
  };
}

type Ids = {
  readonly contextIds: tfjs.Tensor1D;
  readonly rowIds: tfjs.Tensor1D;
  readonly blockIds: tfjs.Tensor1D;
};

/** The part of the library that the engine is loaded without. */
function loadedConverter(): Pick<typeof tfjs, 'loadGraphModelSync'> {
  const requireOfLibrary = createRequire(
    createRequire(import.meta.url).resolve('@tensorflow/tfjs'),
  );
  // One release has both, hence the library's types.
  return requireOfLibrary('@tensorflow/tfjs-converter') as typeof tfjs;
}

/** A frozen model of one adgroup, as a deployment of a model per adgroup would load it. */
function graphModelOf(model: RankingModel, block: number): tfjs.GraphModel<tfjs.io.IOHandlerSync> {
  const { layout } = model.blocks;
  const own = readBlock(
    { layout, initial: model.dense },
    blockBytes(model.blocks, block),
  ).variables;
  const valuesOf = (name: string): Float32Array =>
    (own.get(name) ?? model.dense.get(name))?.values ?? new Float32Array();
  const constants: [string, number[], Float32Array | Int32Array][] = [
    ['embedding', [1, WIDTH], valuesOf('adgroupEmbedding')],
    ['w0', [(FIELDS + 1) * WIDTH, 128], valuesOf('layer0.weight')],
    ['b0', [128], valuesOf('layer0.bias')],
    ['w1', [128, 64], valuesOf('layer1.weight')],
    ['b1', [64], valuesOf('layer1.bias')],
    ['w2', [64, 1], valuesOf('output.weight')],
    ['b2', [1], valuesOf('bias')],
    ['half', [], Float32Array.of(0.5)],
    ['axis0', [], Int32Array.of(0)],
    ['all', [2], Int32Array.of(0, 1)],
    ['row', [2], Int32Array.of(1, (FIELDS + 1) * WIDTH)],
    ['zero', [1], Int32Array.of(0)],
  ];
  const float = { T: { type: 'DT_FLOAT' } };
  const node = (name: string, op: string, input: string[], attr: object = float): object => ({
    ...{ name, op, input, attr },
  });
  const placeholder = (name: string): object =>
    node(name, 'Placeholder', [], { dtype: { type: 'DT_FLOAT' } });
  const nodes = [
    ...constants.map(([name, , values]) =>
      node(name, 'Const', [], {
        dtype: { type: values instanceof Int32Array ? 'DT_INT32' : 'DT_FLOAT' },
      }),
    ),
    ...[placeholder('fields'), placeholder('linear')],
    node('x', 'ConcatV2', ['fields', 'embedding', 'axis0'], { ...float, N: { i: '2' } }),
    node('flat', 'Reshape', ['x', 'row']),
    ...[
      node('m0', 'MatMul', ['flat', 'w0']),
      node('a0', 'AddV2', ['m0', 'b0']),
      node('h0', 'Relu', ['a0']),
    ],
    ...[
      node('m1', 'MatMul', ['h0', 'w1']),
      node('a1', 'AddV2', ['m1', 'b1']),
      node('h1', 'Relu', ['a1']),
    ],
    ...[node('m2', 'MatMul', ['h1', 'w2']), node('a2', 'AddV2', ['m2', 'b2'])],
    ...[
      node('s', 'Sum', ['x', 'zero']),
      node('s2', 'Square', ['s']),
      node('ss', 'Sum', ['s2', 'zero']),
    ],
    ...[
      node('x2', 'Square', ['x']),
      node('xx', 'Sum', ['x2', 'all']),
      node('d', 'Sub', ['ss', 'xx']),
    ],
    ...[
      node('p', 'Mul', ['d', 'half']),
      node('t', 'AddV2', ['a2', 'p']),
      node('logit', 'AddV2', ['t', 'linear']),
    ],
  ];
  const bytes = constants.map(
    ([, , { buffer, byteOffset, byteLength }]) => new Uint8Array(buffer, byteOffset, byteLength),
  );
  const data = Buffer.concat(bytes);
  // Pairs of model and weights are taken as they are, which the types do not say.
  return loadedConverter().loadGraphModelSync([
    {
      format: 'graph-model',
      modelTopology: { node: nodes, versions: { producer: 1 } },
      weightsManifest: [
        {
          paths: ['weights'],
          weights: constants.map(([name, shape, values]) => ({
            ...{ name, shape, dtype: values instanceof Int32Array ? 'int32' : 'float32' },
          })),
        },
      ],
    } as unknown as tfjs.io.ModelJSON,
    data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength),
  ] as unknown as tfjs.io.IOHandlerSync);
}

/** Scores the first candidates of a request, each by the model of one of a few adgroups. */
export function graphModels(
  engine: Engine,
  model: RankingModel,
  joined: ReturnType<typeof joinedTables>,
  modelCount: number,
): {
  readonly score: (request: RankingRequest, candidateCount: number, logits: Float32Array) => void;
} {
  const { tf } = engine;
  const models = Array.from({ length: modelCount }, (_, block) => graphModelOf(model, block));
  const fields = new Float32Array(FIELDS * WIDTH);
  return {
    score: (request, candidateCount, logits) => {
      const { context, rows } = joinedIds(joined.firstRows, request);
      for (let candidate = 0; candidate < candidateCount; candidate += 1) {
        let linear = 0;
        const ids = [
          ...context,
          ...rows.subarray(CANDIDATE_FIELDS * candidate, CANDIDATE_FIELDS * (candidate + 1)),
        ];
        for (const [field, id] of ids.entries()) {
          const start = id * ROW_WIDTH;
          fields.set(joined.values.subarray(start, start + WIDTH), field * WIDTH);
          linear += at(joined.values, start + WIDTH);
        }
        tf.tidy(() => {
          const input = {
            fields: tf.tensor2d(fields, [FIELDS, WIDTH]),
            linear: tf.tensor1d([linear]),
          };
          const logit = at(models, candidate % modelCount).execute(input, 'logit') as tfjs.Tensor;
          logits[candidate] = at(logit.dataSync<'float32'>(), 0);
        });
      }
    },
  };
}
