/** Starts several things at once and hands on what comes of them as it arrives. */

interface ArrivalTerms {
  /** The number of things that are started and not read, at most. */
  readonly unreadCountMax: number;
  readonly signal: AbortSignal;
  /** Makes what is thrown when the signal aborts. */
  readonly interrupted: () => Error;
  /** Called when the signal aborts before the end. */
  readonly onAbort: () => void;
  /** Called once, when the first one is asked for. */
  readonly onRead: () => void;
  /** Called once, when all are read or none will be. */
  readonly onEnd: () => void;
}

/**
 * Starts the first of them when it is called, and another one for each value that is read.
 *
 * @throws the first failure, when it is read, or at once if the signal aborts. The others end unheard.
 */
export function inOrderOfArrival<Value>(
  starts: readonly (() => Promise<Value>)[],
  { unreadCountMax, signal, interrupted, onAbort, onRead, onEnd }: ArrivalTerms,
): AsyncGenerator<Value> {
  const arrived: PromiseSettledResult<Value>[] = [];
  let startedCount = 0;
  let readCount = 0;
  let wake = (): void => undefined;
  const arrive = (settled: PromiseSettledResult<Value>): void => {
    arrived.push(settled);
    wake();
  };
  const startSome = (): void => {
    for (const start of starts.slice(startedCount, readCount + unreadCountMax)) {
      startedCount += 1;
      start().then(
        (value) => arrive({ status: 'fulfilled', value }),
        (reason: unknown) => arrive({ status: 'rejected', reason }),
      );
    }
  };
  const stop = (): void => {
    onAbort();
    wake();
  };
  signal.addEventListener('abort', stop, { once: true });
  if (!signal.aborted) startSome();
  async function* read(): AsyncGenerator<Value> {
    onRead();
    try {
      while (readCount < starts.length) {
        if (signal.aborted) throw interrupted();
        const settled = arrived.shift();
        if (settled === undefined) {
          await new Promise<void>((resolve) => (wake = resolve));
          continue;
        }
        if (settled.status === 'rejected') throw settled.reason;
        readCount += 1;
        startSome();
        yield settled.value;
      }
    } finally {
      signal.removeEventListener('abort', stop);
      onEnd();
    }
  }
  return read();
}
