/**
 * The six base models in the form of the code published with Pan et al. (SIGIR 2019), width 128.
 * Their Wide & Deep has no wide part: it is a tower alone, which is `mlp` here. Their PNN* takes
 * inner products over six fields and the outer product over all eight; here both use all eight.
 */

const EMBEDDING_WIDTH = 128;

const NORMAL = { kind: 'normal', deviation: 0.01 };
const GLOROT = { kind: 'glorot-uniform' };

/** The fields whose interactions enter the models: the published code stops after six of eight. */
const SIX_FIELDS = ['film', 'year', 'title', 'genres', 'age', 'gender'];
const BY_SIX_FIELDS = { interactions: 'by-field', factorisedFields: SIX_FIELDS };

const FIELDS = {
  embeddingWidth: EMBEDDING_WIDTH,
  personal: [],
  linear: false,
  initialisation: {
    layers: 'glorot-uniform',
    tables: {
      ...{ film: NORMAL, year: NORMAL, age: NORMAL, gender: NORMAL },
      ...{ occupation: NORMAL, user: NORMAL, title: GLOROT, genres: GLOROT },
    },
  },
};

/** Sections `model` of run configs. */
export const BASE_MODELS = {
  deepfm: { ...FIELDS, ...BY_SIX_FIELDS, kind: 'deepfm', hiddenWidths: layersOf(2) },
  fm: { ...FIELDS, ...BY_SIX_FIELDS, kind: 'fm', hiddenWidths: [] },
  'wide-deep': { ...FIELDS, kind: 'mlp', hiddenWidths: layersOf(3) },
  ipnn: { ...FIELDS, ...BY_SIX_FIELDS, kind: 'ipnn', hiddenWidths: layersOf(1) },
  opnn: { ...FIELDS, kind: 'opnn', hiddenWidths: layersOf(1) },
  pnn: { ...FIELDS, interactions: 'by-field', kind: 'pnn', hiddenWidths: layersOf(1) },
} as const satisfies Record<string, Readonly<Record<string, unknown>>>;

export type BaseModelName = keyof typeof BASE_MODELS;
// The keys of a constant record are those of its type.
export const BASE_MODEL_NAMES = Object.keys(BASE_MODELS) as [BaseModelName, ...BaseModelName[]];

function layersOf(count: number): number[] {
  return Array.from({ length: count }, () => EMBEDDING_WIDTH);
}
