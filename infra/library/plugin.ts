/** The entry point `qianmo/plugin`: what the file of an own method or model may import. */

export * from '../../shared/plugins/toolkit.js';
export type { ForwardFrame, Piece, Staged } from '../../shared/models/kinds/model-definition.js';
export type { ModelDefinition } from '../../shared/models/kinds/model-definition.js';
export type { BlockVariable, ModelTerms } from '../../shared/models/kinds/model-definition.js';
export type { ModelOptions } from '../../shared/models/kinds/model-options.js';
export type { Method, MethodPlan } from '../../shared/methods/inner-loop/method.js';
