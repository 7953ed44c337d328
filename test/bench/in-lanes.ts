/**
 * Works on a list: on some items at once, in the order of the list.
 *
 * @param laneCount how many at once
 * @throws the first failure. Nothing begins after it, and what has begun is not waited for.
 */
export async function inLanes<Item extends object>(
  items: readonly Item[],
  laneCount: number,
  work: (item: Item) => Promise<void>,
): Promise<void> {
  const waiting = [...items];
  const lane = async (): Promise<void> => {
    for (let item = waiting.shift(); item !== undefined; item = waiting.shift()) {
      try {
        await work(item);
      } catch (error) {
        waiting.length = 0;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: laneCount }, lane));
}
