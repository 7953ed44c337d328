/** Which keys an object store takes: those that mean the same in a folder and in a bucket. */

const SEGMENT = /^[A-Za-z0-9_][A-Za-z0-9._=-]*$/;
const KEY_LENGTH_MAX = 200;

export function isObjectKey(text: string): boolean {
  return text.length <= KEY_LENGTH_MAX && text.split('/').every((part) => SEGMENT.test(part));
}

/** Keys come from this program, never from a user: a wrong one is a bug. */
export function assertObjectKey(key: string): void {
  if (!isObjectKey(key)) throw new Error(`"${key}" is not a key of an object store`);
}
