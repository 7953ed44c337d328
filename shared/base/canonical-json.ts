/**
 * JSON text that depends only on the value: equal values give equal text, whatever the order of
 * keys.
 */

/** Keys are sorted, and those without a value are left out. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value))
    return value.every((each) => typeof each === 'number')
      ? JSON.stringify(value)
      : `[${value.map(canonicalJson).join(',')}]`;
  if (!isRecord(value)) return value === undefined ? 'null' : JSON.stringify(value);
  const entries = Object.keys(value)
    .filter((key) => value[key] !== undefined)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${canonicalJson(value[key])}`);
  return `{${entries.join(',')}}`;
}

/** The values in an object and in those in it, as texts, with their paths as `method.innerRate`. */
export function pathsIn(value: unknown, path = ''): (readonly [path: string, text: string])[] {
  if (value === undefined) return [];
  if (isRecord(value))
    return Object.entries(value).flatMap(([name, field]) =>
      pathsIn(field, path === '' ? name : `${path}.${name}`),
    );
  return [[path, typeof value === 'string' ? value : JSON.stringify(value)]];
}

/** An object with keys: neither null nor an array. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
