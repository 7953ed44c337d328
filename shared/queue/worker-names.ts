/** Reads the names of the connected workers from a list of connections. */

/** BullMQ lists a coordinator's check for stalled jobs under this name. It is not a worker. */
export const STALLED_CHECKER_NAME = 'stalled-checker';

/** Precedes the worker's name in the name of its connection. */
const WORKER_MARK = ':w:';

/**
 * @param connections as BullMQ lists them. A worker without a name counts too.
 */
export function workerNamesOf(connections: readonly Readonly<Record<string, string>>[]): string[] {
  return connections
    .map(({ rawname = '' }) => {
      const markAt = rawname.indexOf(WORKER_MARK);
      return markAt < 0 ? '' : rawname.slice(markAt + WORKER_MARK.length);
    })
    .filter((name) => name !== STALLED_CHECKER_NAME);
}
