/** Refuses operations that cannot be captured, and finds the line of the captured function. */

import { QianmoError } from '../../../../shared/base/errors.js';

const RANDOM_OPERATIONS = new Set([
  'Multinomial',
  'RandomUniform',
  'RandomUniformInt',
  'RandomStandardNormal',
  'TruncatedNormal',
  'ParameterizedTruncatedNormal',
  'RandomGamma',
  'RandomGammaGrad',
  'RandomPoisson',
  'RandomPoissonV2',
  'RandomShuffle',
  'RandomCrop',
]);

const SHAPE_FROM_DATA_OPERATIONS = new Set([
  'Where',
  'Unique',
  'UniqueV2',
  'UniqueWithCounts',
  'UniqueWithCountsV2',
  'ListDiff',
  'DynamicPartition',
  'NonMaxSuppression',
  'NonMaxSuppressionV2',
  'NonMaxSuppressionV3',
  'NonMaxSuppressionV4',
  'NonMaxSuppressionV5',
  'NonMaxSuppressionWithOverlaps',
  'SparseFillEmptyRows',
  'SparseReshape',
  'StringNGrams',
  'RaggedGather',
  'RaggedRange',
]);

/** Stateless operations draw from a seed that is an input, so they are repeatable. */
export function refuseByName(operation: string): void {
  if (RANDOM_OPERATIONS.has(operation))
    throw refusal({
      what: `the random operation ${operation} cannot be captured`,
      expected: 'results that depend on the inputs alone',
      cure: 'draw outside and pass the result in, or use a Stateless operation with a seed',
    });
  if (SHAPE_FROM_DATA_OPERATIONS.has(operation))
    throw refusal({
      what: `the operation ${operation} cannot be captured`,
      expected: 'output shapes that follow from the shapes of the inputs',
      found: 'a shape that depends on the values',
      cure: 'use a mask of a fixed shape, or do this step outside the captured function',
    });
}

interface RefusalText {
  readonly what: string;
  readonly expected?: string;
  readonly found?: string;
  readonly cure: string;
}

/** An error that names the line of the captured function that is being executed. */
export function refusal(text: RefusalText): QianmoError {
  const where = callingLine();
  return new QianmoError({ kind: 'usage', ...text, ...(where === null ? {} : { where }) });
}

export function isRefusal(error: unknown): error is QianmoError {
  return error instanceof QianmoError && error.kind === 'usage';
}

/** Gradients and nested scopes of the library add many frames between caller and recorder. */
const STACK_FRAMES_MAX = 200;
const OWN_FOLDER = new URL('.', import.meta.url);

/** `file:line` of the nearest frame outside this folder and all packages; null if there is none. */
function callingLine(): string | null {
  const framesMax = Error.stackTraceLimit;
  Error.stackTraceLimit = STACK_FRAMES_MAX;
  const { stack = '' } = new Error('where');
  Error.stackTraceLimit = framesMax;
  for (const frame of stack.split('\n').slice(1)) {
    const place = /\(?((?:file:\/\/)?\/[^()]*):(\d+):\d+\)?$/.exec(frame.trim());
    if (place === null) continue;
    const [, address = '', line = ''] = place;
    const path = address.replace(/^file:\/\//, '');
    if (path.includes('/node_modules/') || path.startsWith(OWN_FOLDER.pathname)) continue;
    return `${path}:${line}`;
  }
  return null;
}
