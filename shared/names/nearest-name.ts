/** Guesses which known name was meant by a misspelled one. */

import { at } from '../base/arrays.js';

/** The nearest name within two edits or a third of the length, ignoring case; null if none is near. */
export function nearestName(wanted: string, names: readonly string[]): string | null {
  let nearest: string | null = null;
  let distanceMin = Math.max(2, Math.floor(wanted.length / 3)) + 1;
  for (const name of names) {
    const distance = editDistance(wanted.toLowerCase(), name.toLowerCase());
    if (distance < distanceMin) {
      nearest = name;
      distanceMin = distance;
    }
  }
  return nearest;
}

/** Levenshtein, one row at a time. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, n) => n);
  for (let i = 1; i <= a.length; i += 1) {
    const current = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const swap = at(previous, j - 1) + (a.charAt(i - 1) === b.charAt(j - 1) ? 0 : 1);
      current.push(Math.min(swap, at(previous, j) + 1, at(current, j - 1) + 1));
    }
    previous = current;
  }
  return at(previous, b.length);
}
