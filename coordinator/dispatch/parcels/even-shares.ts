/** The jobs of a step as one parcel for each worker, where they are small and few (decision 0086). */

/** An order for a job, by its number of rows. */
interface SizedOrder {
  readonly rowCount?: number;
}

/** More jobs for a worker have several exchanges, so that those that are faster do more. */
const SHARE_JOB_COUNT_MAX = 4;

/**
 * True if each of several workers has its share in one exchange. Another exchange costs all processes together as much
 * processor time as a job of 5 ms, and a share is over before a faster worker could have done much of it.
 */
export function isOneExchangeEach(
  times: { readonly exchangeMs: number; readonly usualMs: number },
  { orderCount, workerCount }: { readonly orderCount: number; readonly workerCount: number },
): boolean {
  const shareCount = Math.ceil(orderCount / Math.max(1, workerCount));
  return (
    workerCount > 1 &&
    shareCount > 1 &&
    shareCount <= SHARE_JOB_COUNT_MAX &&
    shareCount * times.usualMs <= times.exchangeMs
  );
}

/** Shares with about as many rows each: the largest order first, each to the share that has fewest rows so far. */
export function evenShares<Order extends SizedOrder>(
  orders: readonly Order[],
  workerCount: number,
): Order[][] {
  const shares = Array.from({ length: workerCount }, () => ({
    rowCount: 0,
    orders: [] as Order[],
  }));
  const sizeOf = ({ rowCount = 1 }: Order): number => rowCount;
  for (const order of [...orders].sort((a, b) => sizeOf(b) - sizeOf(a))) {
    const least = shares.reduce((one, other) => (other.rowCount < one.rowCount ? other : one));
    least.orders.push(order);
    least.rowCount += sizeOf(order);
  }
  return shares.flatMap((share) => (share.orders.length === 0 ? [] : [share.orders]));
}
