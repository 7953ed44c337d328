/** Arrays that are made for a bundle in memory; whoever has many bundles one after the other says where they lie. */

export interface NumberArrayType<Values> {
  readonly BYTES_PER_ELEMENT: number;
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): Values;
}

/** Makes an array of zeros. */
export type MakeArray = <Values>(Type: NumberArrayType<Values>, length: number) => Values;

export const newArray: MakeArray = (Type, length) =>
  new Type(new ArrayBuffer(length * Type.BYTES_PER_ELEMENT), 0, length);
