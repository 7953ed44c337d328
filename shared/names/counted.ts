/** Words of sentences: a count with its noun, one or many (`1 row`, `2 rows`), a duration, a digest. */

/** @param shown the count as its page writes it, such as with commas */
export function counted(count: number, noun: string, shown = String(count)): string {
  return `${shown} ${noun}${count === 1 ? '' : 's'}`;
}

/** `1.5 s` */
export function secondsText(durationMs: number): string {
  return `${(durationMs / 1000).toFixed(1)} s`;
}

/** The digits by which ids, metrics and sentences name a bundle. */
export const BUNDLE_DIGIT_COUNT = 12;

export function shortDigest(digest: string): string {
  return digest.slice(0, BUNDLE_DIGIT_COUNT);
}
