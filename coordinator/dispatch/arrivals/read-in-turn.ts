/** Reads several things at once and hands them on in their order. */

/**
 * Keeps up to `aheadCount` reads under way and yields their values in the order of `items`.
 *
 * @throws what `read` throws, when it is the item's turn. The reads behind it end unheard.
 */
export async function* readInTurn<Item, Value>(
  items: readonly Item[],
  read: (item: Item) => Promise<Value>,
  aheadCount: number,
): AsyncGenerator<Value> {
  const underWay: Promise<Value>[] = [];
  for (const item of items) {
    if (underWay.length === aheadCount) yield await takenFrom(underWay);
    const reading = read(item);
    // It is thrown where it is awaited, which is later.
    reading.catch(() => undefined);
    underWay.push(reading);
  }
  while (underWay.length > 0) yield await takenFrom(underWay);
}

function takenFrom<Value>(underWay: Promise<Value>[]): Promise<Value> {
  const first = underWay.shift();
  if (first === undefined) throw new Error('no read is under way');
  return first;
}
