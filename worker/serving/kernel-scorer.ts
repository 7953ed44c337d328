/**
 * The native kernel: the logit of every candidate of a request, the context computed once and blocks
 * read where they lie. `qianmo setup` compiles it from `native/`; it needs no TensorFlow.
 */

import { createRequire } from 'node:module';
import { QianmoError } from '../../shared/base/errors.js';
import type { RankingModel } from '../../shared/bundle/ranking-model.js';
import type { ColumnsAddon } from './columns/native-columns.js';
import { kernelDescriptionOf } from './kernel-description.js';
import type { MappingAddon } from './mapping-addon.js';
import { supportInputAdder } from './candidate-support.js';
import type { RankingRequest } from './ranking-request.js';
import { coverageOf, scoringPlanOf, type Coverage } from './scoring-plan.js';

/** An opaque handle; the model is freed with it. */
interface NativeModel {
  readonly isNativeModel: true;
}

/** As `native/addon.cc` exports it. */
interface ScoringAddon extends MappingAddon, ColumnsAddon {
  /** The kernels that this machine runs, the fastest first. */
  kernels(): string[];
  /** Reads the arrays where they lie, so that the caller must keep them. */
  create(kernel: string, words: Int32Array, arrays: readonly ArrayBufferView[]): NativeModel;
  /** @returns a status: 0 if all is scored. */
  score(
    model: NativeModel,
    candidateCount: number,
    blocks: Int32Array,
    contextIds: Int32Array,
    candidateIds: Int32Array,
    contextNumbers: Float32Array,
    candidateNumbers: Float32Array,
    logits: Float32Array,
  ): number;
  /** Frees the model now. What it read may be unmapped afterwards; scoring with it throws. */
  release(model: NativeModel): void;
}

const REFUSALS = ['', 'there is no block of this number', 'there is no row of this id'];

/** Loads the addon that `qianmo setup` has compiled. */
export function loadScoringAddon(path: string): ScoringAddon {
  try {
    // Built from the sources beside this file, whose exports the interface repeats.
    return createRequire(import.meta.url)(path) as ScoringAddon;
  } catch (error) {
    throw new QianmoError({
      kind: 'environment',
      what: 'the scoring kernel did not load',
      where: path,
      found: error instanceof Error ? error.message : String(error),
      cure: 'qianmo setup compiles it; the captured graph ranks without it, more slowly',
    });
  }
}

/** Whether the kernel scores a model; if not, why the captured graph must. */
export function kernelCoverage(model: Pick<RankingModel, 'spec'>): Coverage {
  return coverageOf(model);
}

export class KernelScorer {
  readonly #addon: ScoringAddon;
  readonly #native: NativeModel;
  /** Keeps what the native model reads alive. */
  readonly #kept: readonly ArrayBufferView[];
  readonly #withInputs: (request: RankingRequest) => RankingRequest;

  /**
   * @param contextFeatures features that a request has once; the others it has for each candidate.
   * @param kernel one of the addon's `kernels()`; the fastest if absent.
   */
  constructor(
    addon: ScoringAddon,
    model: RankingModel,
    contextFeatures: readonly string[],
    kernel = addon.kernels()[0] ?? 'portable',
  ) {
    const { words, arrays } = kernelDescriptionOf(model, scoringPlanOf(model, contextFeatures));
    this.#addon = addon;
    this.#withInputs = supportInputAdder(model, contextFeatures);
    this.#kept = arrays;
    this.#native = addon.create(kernel, words, arrays);
  }

  score(given: RankingRequest, logits: Float32Array): void {
    const request = this.#withInputs(given);
    const status = this.#addon.score(
      this.#native,
      request.candidateCount,
      request.blocks,
      request.contextIds,
      request.candidateIds,
      request.contextNumbers,
      request.candidateNumbers,
      logits,
    );
    if (status !== 0) throw new RangeError(REFUSALS[status] ?? `status ${status}`);
    if (this.#kept.length === 0) throw new Error('a model has arrays');
  }

  release(): void {
    this.#addon.release(this.#native);
  }
}
