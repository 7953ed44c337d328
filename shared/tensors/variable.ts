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
   * `trunk` and `personal` belong to the model. A `method` variable is learned by a method in addition to
   * the model (inner rates, gates, ...). All tasks share it, and it is never pulled towards 0.
   */
  readonly block: 'trunk' | 'personal' | 'method';
  readonly initial: Initialisation;
}
