/** The formats of other servers that a bundle's model is written in. Commands name them without loading what writes. */

export const MODEL_FORMATS = ['onnx', 'savedmodel'] as const;
export type ModelFormat = (typeof MODEL_FORMATS)[number];
