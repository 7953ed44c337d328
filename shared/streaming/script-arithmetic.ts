/**
 * The name of what computes numbers in JavaScript here. The exponential and logarithm of two engines, or
 * of one engine on two kinds of processors, may differ in the last bit.
 */
export function scriptArithmetic(): string {
  return `V8 ${process.versions.v8} on ${process.arch}`;
}
