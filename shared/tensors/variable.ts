/** A trainable tensor by name, as models and methods declare it. */

export type Initialisation =
  | { readonly kind: 'zeros' }
  | { readonly kind: 'constant'; readonly value: number }
  | { readonly kind: 'normal'; readonly deviation: number }
  /** In [-bound, bound]. */
  | { readonly kind: 'uniform'; readonly bound: number };

export interface Variable {
  /** `layer0.weight`, `output.bias`, `bias`, ... */
  readonly name: string;
  readonly shape: readonly number[];
  /**
   * `trunk` and `personal` are the model's; a `method` variable is what a method learns beside the
   * model (inner rates, gates, ...): shared by all tasks, and never pulled towards 0.
   */
  readonly block: 'trunk' | 'personal' | 'method';
  readonly initial: Initialisation;
}
