/**
 * The logit of every candidate on the captured graph, for models that the kernel does not cover: those with a
 * forward pass of their own or personal cross layers. It needs TensorFlow, and is slower.
 */

import { at, int32At } from '../../../shared/base/arrays.js';
import { adaptedTaskOf } from '../../../shared/bundle/adapted-block.js';
import type { RankingModel } from '../../../shared/bundle/ranking-model.js';
import type { Engine } from '../../compute/engine/load-engine.js';
import { RowScorer, type FeatureRows } from '../../compute/scoring/row-scorer.js';
import { requestLayoutOf, type RankingRequest, type RequestLayout } from '../ranking-request.js';

export class GraphScorer {
  readonly #model: RankingModel;
  readonly #layout: RequestLayout;
  readonly #rows: RowScorer;

  /** @param contextFeatures features that a request has once; the others it has for each candidate. */
  constructor(engine: Engine, model: RankingModel, contextFeatures: readonly string[]) {
    this.#model = model;
    this.#layout = requestLayoutOf(model.spec, contextFeatures);
    const { spec, shift, dense, tables } = model;
    this.#rows = new RowScorer(engine, { spec, shift, dense, tables });
  }

  score(request: RankingRequest, logits: Float32Array): void {
    const candidatesByBlock = new Map<number, number[]>();
    for (let candidate = 0; candidate < request.candidateCount; candidate += 1) {
      const block = int32At(request.blocks, candidate);
      const others = candidatesByBlock.get(block);
      if (others === undefined) candidatesByBlock.set(block, [candidate]);
      else others.push(candidate);
    }
    const scored = [...candidatesByBlock].map(([block, candidates]) => ({
      adapted: adaptedTaskOf(this.#model, block),
      rows: this.#rowsOf(request, candidates),
    }));
    const found = this.#rows.score(scored);
    for (const [place, candidates] of [...candidatesByBlock.values()].entries())
      for (const [row, candidate] of candidates.entries())
        logits[candidate] = at(at(found, place), row);
  }

  release(): void {
    this.#rows.dispose();
  }

  /** Candidates as rows of a task. */
  #rowsOf(request: RankingRequest, candidates: readonly number[]): FeatureRows {
    const { ids, numbers, idCounts, numberCounts } = this.#layout;
    const { contextIds, candidateIds, contextNumbers, candidateNumbers } = request;
    const idColumns = ids.map(({ side, firstPlace, placeCount }) => {
      const column = new Int32Array(candidates.length * placeCount);
      for (const [row, candidate] of candidates.entries()) {
        const first = (side === 'context' ? 0 : candidate * idCounts.candidate) + firstPlace;
        const from = side === 'context' ? contextIds : candidateIds;
        column.set(from.subarray(first, first + placeCount), row * placeCount);
      }
      return column;
    });
    const categoryCount = this.#model.spec.categoryFeatures.length;
    return {
      rowCount: candidates.length,
      categoryIds: idColumns.slice(0, categoryCount),
      bagIds: idColumns.slice(categoryCount),
      numbers: numbers.map(({ side, firstPlace }) =>
        Float32Array.from(candidates, (candidate) =>
          side === 'context'
            ? at(contextNumbers, firstPlace)
            : at(candidateNumbers, candidate * numberCounts.candidate + firstPlace),
        ),
      ),
    };
  }
}
