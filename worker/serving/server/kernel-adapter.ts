/** Adapts adgroups of a bundle by the scoring kernel, where the method states the prior whose posterior a block is. */

import { blockLayoutOf } from '../../../shared/bundle/block-codec.js';
import type { AdaptedTask } from '../../../shared/bundle/adapted-tasks.js';
import type { LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import type { RankingModel } from '../../../shared/bundle/ranking-model.js';
import { supportSumsOf, withSupportInputs } from '../../../shared/bundle/support-rows.js';
import type { EncodedRows } from '../../../shared/features/row-encoder.js';
import type { NormalPrior } from '../../../shared/methods/inner-loop/inner-loop.js';
import {
  personalVariables,
  VARIANCES,
} from '../../../shared/methods/inner-loop/personal-blocks.js';
import { methodPlanOf } from '../../../shared/methods/methods.js';
import type { Adaptation } from '../../../shared/queue/protocol.js';
import type { LossKind } from '../../../shared/tasks/task-label.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';
import { elementCountOf, type DenseTensor } from '../../../shared/tensors/named-tensors.js';
import { KernelScorer, type ScoringAddon } from '../kernel-scorer.js';
import { layoutWithSupportInputs, requestOfRows } from '../ranking-request.js';

/** Encoded rows with their labels, `[rowCount]`. */
export interface LabelledRows {
  readonly rows: EncodedRows;
  readonly loss: LossKind;
  /** Clicks, or weight times the standardised value. */
  readonly clicks: Float32Array;
  readonly impressions: Float32Array;
}

/** The rows as those of a task that adapts on all of them. */
export function supportTaskOf(
  { rows, loss, clicks, impressions }: LabelledRows,
  taskIndex = 0,
): TaskRows {
  const { rowCount } = rows;
  return {
    ...{ ...rows, taskIndex, supportRowCount: rowCount, loss },
    ...{ clicks, impressions, oracle: null },
    times: new Float64Array(rowCount),
    logRows: new Float64Array(rowCount),
  };
}

export class KernelAdapter {
  readonly #loaded: LoadedBundle;
  readonly #prior: NormalPrior;
  readonly #scorer: KernelScorer;

  private constructor(
    addon: ScoringAddon,
    loaded: LoadedBundle,
    prior: NormalPrior,
    kernel?: string,
  ) {
    this.#loaded = loaded;
    this.#prior = prior;
    this.#scorer = new KernelScorer(addon, withEmptyBlock(loaded.model), [], kernel);
  }

  /** Null where the method of the bundle states no prior: its adgroups adapt by the engine. */
  static of(addon: ScoringAddon, loaded: LoadedBundle, kernel?: string): KernelAdapter | null {
    const { model, manifest } = loaded;
    const personal = personalVariables(model.spec).map(({ name }) => name);
    const prior = methodPlanOf(manifest.method).innerLoop.prior?.(model.dense, personal);
    return prior === undefined ? null : new KernelAdapter(addon, loaded, prior, kernel);
  }

  adapted(labelled: LabelledRows, adaptation: Adaptation): AdaptedTask {
    const { model, manifest } = this.#loaded;
    const { spec } = model;
    const { clicks, impressions, loss } = labelled;
    const task = supportTaskOf(labelled);
    const inputs = withSupportInputs(spec.options.supportInputs, manifest.encodedFeatures, [task]);
    const request = requestOfRows(
      spec,
      inputs[0] ?? task,
      new Int32Array(task.rowCount),
      layoutWithSupportInputs(spec, []),
    );
    const areValues = loss === 'squared';
    const labels = { clicks, impressions, areValues };
    const { mode, variances } = this.#scorer.posterior(request, labels, this.#prior, adaptation);
    let first = 0;
    const blocks = new Map(
      spec.ownVariables.map(({ name, shape }): [string, DenseTensor] => {
        // The prediction of a value is not moderated.
        if (name === VARIANCES)
          return [name, { shape, values: areValues ? variances.fill(0) : variances }];
        const values = mode.subarray(first, (first += elementCountOf(shape)));
        return [name, { shape, values }];
      }),
    );
    return { taskIndex: 0, loss, isAlone: true, blocks, support: supportSumsOf(spec, task) };
  }

  release(): void {
    this.#scorer.release();
  }
}

/** The model with zeros as its only block: what is left of a logit does not depend on the adgroup. */
function withEmptyBlock(model: RankingModel): RankingModel {
  const layout = blockLayoutOf(model.spec, 'float32');
  const shards = [new Uint8Array(layout.strideByteCount)];
  return {
    ...model,
    blocks: { ...model.blocks, layout, shards, blockCount: 1, blocksPerShard: 1 },
  };
}
