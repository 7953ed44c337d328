/** The knowledge that a contextual policy has of candidates, by the weights that it has learned. */

import type { Clock } from '../../../shared/base/clock.js';
import type { ExplorationConfig } from '../../../shared/config/exploration-config.js';
import type { DecisionInput } from '../../../shared/exploration/decision-record.js';
import type { Lesson } from '../../../shared/exploration/lesson.js';
import type { EvidenceStore } from '../evidence/evidence-store.js';
import {
  learningOf,
  lessonOf,
  LinearWeights,
  logisticWeights,
  logOddsOf,
  type LearnedNumbers,
  type Learning,
} from '../evidence/learned-weights.js';

interface ContextCandidate {
  readonly adgroup: string;
  readonly probability: number;
  /** Values of the columns that the policy learns from, with their names. */
  readonly values: readonly string[];
}

type ContextOf = (lessons: readonly Lesson[]) => DecisionInput['context'];

/** How long weights are used before they are read again. */
const WEIGHTS_AGE_MS_MAX = 200;

export class LearnedContext {
  readonly #learning: Learning;
  readonly #evidence: Pick<EvidenceStore, 'learned'>;
  readonly #clock: Clock;
  #known: { readonly readMs: number; readonly contextOf: ContextOf } | null = null;

  private constructor(learning: Learning, evidence: Pick<EvidenceStore, 'learned'>, clock: Clock) {
    this.#learning = learning;
    this.#evidence = evidence;
    this.#clock = clock;
  }

  /** Null for policies that learn no weights. */
  static of(
    settings: ExplorationConfig,
    evidence: Pick<EvidenceStore, 'learned'>,
    clock: Clock,
  ): LearnedContext | null {
    const learning = learningOf(settings);
    return learning === null ? null : new LearnedContext(learning, evidence, clock);
  }

  /** What each candidate teaches if it is shown. */
  lessonsOf(candidates: readonly ContextCandidate[]): readonly Lesson[] {
    return candidates.map((candidate) =>
      lessonOf(this.#learning, candidate, candidate.probability),
    );
  }

  /** @throws QianmoError if the weights cannot be read. */
  async contextOf(lessons: readonly Lesson[]): Promise<DecisionInput['context']> {
    const nowMs = this.#clock.monotonicMs();
    if (this.#known === null || nowMs - this.#known.readMs > WEIGHTS_AGE_MS_MAX) {
      const contextOf = contextBy(this.#learning, await this.#evidence.learned());
      this.#known = { readMs: nowMs, contextOf };
    }
    return this.#known.contextOf(lessons);
  }
}

/** What weights say of candidates by their lessons. */
export function contextBy(learning: Learning, numbers: LearnedNumbers): ContextOf {
  if (learning.kind === 'linear') {
    const weights = new LinearWeights(learning, numbers);
    return (lessons) => {
      const predicted = lessons.map((lesson) => weights.predicted(lesson));
      return {
        kind: 'linear',
        means: predicted.map(({ mean }) => mean),
        deviations: predicted.map(({ deviation }) => deviation),
      };
    };
  }
  const { means: weights, precisions } = logisticWeights(learning, numbers);
  return (lessons) => ({
    ...{ kind: 'logistic', weights, precisions },
    offsets: lessons.map(({ probability }) => logOddsOf(probability)),
    features: lessons.map(({ places, dimension }) => {
      const features = new Array<number>(dimension).fill(0);
      for (const place of places) features[place] = 1 / Math.sqrt(places.length);
      return features;
    }),
  });
}
