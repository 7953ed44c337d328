/** Who is connected to the queue, by name, as both of its ends see it. */

/** How a coordinator's look for stalled jobs is named among the workers, of which it is none. */
export const STALLED_CHECKER_NAME = 'stalled-checker';

/** What stands before a worker's name in the name of its connection. */
const WORKER_MARK = ':w:';

/**
 * @param connections as BullMQ lists them. A worker that has no name is one all the same.
 */
export function workerNamesOf(connections: readonly Readonly<Record<string, string>>[]): string[] {
  return connections
    .map(({ rawname = '' }) => {
      const markAt = rawname.indexOf(WORKER_MARK);
      return markAt < 0 ? '' : rawname.slice(markAt + WORKER_MARK.length);
    })
    .filter((name) => name !== STALLED_CHECKER_NAME);
}
