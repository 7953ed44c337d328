/**
 * Logits of rows as captured functions, shared by predict jobs and by scorers of adapted tasks: the
 * trunk pass of the rows, which any blocks share, and the logits under given blocks.
 *
 * Every operation of a scored row reads that row, the blocks of its task and shared variables, and
 * sums over widths of the model alone, never over rows or tasks. So a row's logit does not depend on
 * the rows beside it (`row-scorer.ts` has the layout rule). There are two functions, so that both uses
 * run the same graphs: what else is in a graph decides in which order TensorFlow sums.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import { capture, type Captured } from '../engine/capture/capture.js';
import type { GraphShelves } from '../engine/capture/graph-shelf.js';
import type { Engine } from '../engine/load-engine.js';
import { scoredLogits } from '../meta-gradients/moderated-logits.js';
import {
  jobTensorsOf,
  trunkOf,
  type BatchInput,
  type TensorsByName,
} from '../meta-gradients/passes.js';
import type { BatchTensors } from '../models/device-tasks.js';
import { modelPlanOf } from '../models/fields.js';
import type { TrunkPass } from '../models/staged-pass.js';

/** Rows of one role. */
type RowsInput = Omit<BatchInput, 'batches'> & { readonly batch: BatchTensors };

export type LogitsInput = {
  readonly dense: TensorsByName;
  readonly batch: BatchTensors;
  readonly trunk: TrunkPass;
  /** The own variables of tasks, `[taskCount, ...shape]`. */
  readonly state: TensorsByName;
};

export interface ScoringFunctions {
  readonly trunk: Captured<RowsInput, TrunkPass>;
  /** `[taskCount, rowExtent]` */
  readonly logits: Captured<LogitsInput, tfjs.Tensor2D>;
  dispose(): void;
}

export function captureScoring(
  engine: Engine,
  spec: ModelSpec,
  shelves: GraphShelves | null = null,
): ScoringFunctions {
  const plan = modelPlanOf(spec, true);
  const trunk = ({ batch, ...input }: RowsInput): TrunkPass =>
    trunkOf({
      job: jobTensorsOf(engine, spec, { ...input, batches: { query: batch } }),
      plan,
      data: batch,
    });
  const logits = ({ dense, batch, trunk: known, state }: LogitsInput): tfjs.Tensor2D => {
    const job = jobTensorsOf(engine, spec, { dense, batches: { query: batch } });
    return scoredLogits({ pass: { job, plan, data: batch }, trunk: known }, state);
  };
  const optionsOf = (name: string) => ({
    name,
    shelf: shelves?.(['scoring', name, spec]) ?? null,
  });
  const captured = {
    trunk: capture(engine, trunk, optionsOf('the trunk pass of rows')),
    logits: capture(engine, logits, optionsOf('the logits of rows')),
  };
  return {
    ...captured,
    dispose: () => {
      captured.trunk.dispose();
      captured.logits.dispose();
    },
  };
}
