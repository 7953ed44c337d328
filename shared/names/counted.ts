/** A count with its noun, one or many: `1 row`, `2 rows`. */

/** @param shown the count as its page writes it, such as with commas */
export function counted(count: number, noun: string, shown = String(count)): string {
  return `${shown} ${noun}${count === 1 ? '' : 's'}`;
}
