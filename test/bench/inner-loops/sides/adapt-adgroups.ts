/**
 * The work of an export: the adapted layers of 10,000 adgroups, from support rows in the shape of
 * W2, one batch of adgroups at a time, read back to host memory.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { capture } from '../../../../worker/compute/engine/capture/capture.js';
import type { Engine } from '../../../../worker/compute/engine/load-engine.js';
import { adaptationOn, repeatByTask, trunkFeatures, type StepTerms } from './meta-step-graphs.js';
import { createRowTable } from './row-table.js';
import type { WorkloadArrays } from './workload-data.js';

export const ADGROUP_COUNT = 10_000;

interface Adaptation {
  /** Adapts all adgroups; calls back with the blocks of each batch. */
  readonly run: (onBlocks: (values: readonly Float32Array[]) => void) => void;
  readonly dispose: () => void;
}

export function createAdaptation(
  engine: Engine,
  arrays: WorkloadArrays,
  innerSteps: number,
): Adaptation {
  const { tf } = engine;
  const { description } = arrays;
  const shape = description.workloads.W2;
  if (shape.table === null) throw new Error('W2 has a table');
  const { width } = shape.table;
  const terms: StepTerms = {
    ...{ engine, shape, cell: { workload: 'W2', order: 'first', innerSteps } },
    ...{ innerRate: description.innerRate, metaRate: 0 },
  };
  const table = createRowTable(engine, arrays.floats('W2.table'), width);
  const layers = shape.widths
    .slice(1)
    .flatMap((outputs, layer) => [
      tf.tensor2d(arrays.floats(`W2.weight${layer}`), [shape.widths[layer] ?? 0, outputs]),
      tf.tensor2d(arrays.floats(`W2.bias${layer}`), [1, outputs]),
    ]);
  const ids = Array.from({ length: description.batchCount }, (_, batch) =>
    arrays.integers(`W2.batch${batch}.supportIds`),
  );
  const labels = ids.map((_, batch) =>
    tf.tensor2d(arrays.floats(`W2.batch${batch}.supportLabels`), [
      shape.taskCount,
      shape.rowsPerTask,
    ]),
  );
  const trunkSize = 2 * shape.trunkLayerCount;
  type AdaptInput = { rows: tfjs.Tensor; labels: tfjs.Tensor };
  const compute = ({ rows, labels: supportLabels }: AdaptInput): readonly tfjs.Tensor[] => {
    const features = trunkFeatures(terms, rows, layers.slice(0, trunkSize));
    const start = layers
      .slice(trunkSize)
      .map((layer) => repeatByTask(engine, layer, shape.taskCount));
    return adaptationOn(terms, supportLabels)(features, start);
  };
  const inputOf = (batch: number): AdaptInput => ({
    rows: table.gather(ids[batch % ids.length] ?? new Int32Array()),
    labels: labels[batch % labels.length] as tfjs.Tensor,
  });
  const example = inputOf(0);
  const captured = capture(engine, compute, example, { name: 'adaptation' });
  example.rows.dispose();
  return {
    run: (onBlocks) => {
      for (let done = 0; done < ADGROUP_COUNT; done += shape.taskCount) {
        const input = inputOf(done / shape.taskCount);
        const blocks = captured.run(input);
        onBlocks(blocks.map((block) => block.dataSync<'float32'>()));
        tf.dispose([...blocks, input.rows]);
      }
    },
    dispose: () => {
      captured.dispose();
      table.dispose();
    },
  };
}
