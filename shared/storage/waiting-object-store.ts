/**
 * An object store that waits for its server. Calls are repeated while the store is unavailable; refusals fail
 * at once. A store that has never answered fails at once too, since its address is probably wrong.
 */

import type { Clock } from '../base/clock.js';
import { QianmoError, errorOf } from '../base/errors.js';
import { Outage, withRetry } from '../network/retry.js';
import { StoreUnavailableError, type ObjectStore } from './object-store.js';

interface StoreWaitOptions {
  readonly clock: Clock;
  /** Ends the wait. Its reason is thrown if it is a QianmoError. */
  readonly signal: AbortSignal;
  /** The longest outage that calls wait for. */
  readonly waitMs: number;
  /** The config field that has this time. */
  readonly waitField: string;
  readonly onAway: (outage: { readonly address: string; readonly reason: string }) => void;
  readonly onBack: (awayMs: number) => void;
}

/** The wait for one server, which all stores on it share. */
export class StoreWait {
  readonly #options: StoreWaitOptions;
  readonly #outage: Outage;
  #hasAnswered = false;

  constructor(options: StoreWaitOptions) {
    this.#options = options;
    this.#outage = new Outage(options.clock);
  }

  /** @throws QianmoError `transient` if the store stays away, and the reason of the signal if it ends the wait. */
  async attempt<T>(address: string, action: () => Promise<T>): Promise<T> {
    const { clock, signal, onBack } = this.#options;
    // Work that was stopped before this call still cleans up.
    const isStopped = signal.aborted;
    const value = await withRetry(action, {
      assertRetriable: (error, { pauseMs }) => {
        if (!(error instanceof StoreUnavailableError)) throw error;
        if (signal.aborted) throw isStopped ? error : interruptionOf(signal);
        this.#noteOrThrow(error, address, pauseMs);
      },
      onRecovered: () => this.#outage.end(onBack),
      pause: (pauseMs) => clock.sleep(pauseMs, signal),
    });
    this.#hasAnswered = true;
    return value;
  }

  /** Returns when the call may be repeated after the pause. */
  #noteOrThrow(error: StoreUnavailableError, address: string, pauseMs: number): void {
    const { clock, waitMs, waitField, onAway } = this.#options;
    if (!this.#hasAnswered || this.#outage.isGivenUp) throw error;
    const { found: reason = error.message } = error.report;
    const startMs = this.#outage.begin(() => onAway({ address, reason }));
    if (clock.monotonicMs() + pauseMs < startMs + waitMs) return;
    this.#outage.giveUp();
    throw new QianmoError({
      ...error.report,
      what: `${error.report.what}, for longer than ${waitField} allows`,
      cure: `${error.report.cure ?? 'restore the object store'}; then continue with --resume, or raise ${waitField}`,
    });
  }
}

/** @param store one whose puts are durable at once. */
export function waitingStore(store: ObjectStore, wait: StoreWait): ObjectStore {
  const { address } = store;
  return {
    address,
    get: (key, byteCountMax) => wait.attempt(address, () => store.get(key, byteCountMax)),
    put: (key, bytes, condition) => {
      let isRepeated = false;
      return wait.attempt(address, async () => {
        const mayBeWritten = isRepeated;
        isRepeated = true;
        const etag = await store.put(key, bytes, condition);
        if (etag !== null || !mayBeWritten) return etag;
        // The answer to an earlier attempt may have been lost.
        const found = await store.get(key);
        return found !== null && Buffer.compare(found.bytes, bytes) === 0 ? found.etag : null;
      });
    },
    list: (prefix, countMax) => wait.attempt(address, () => store.list(prefix, countMax)),
    listWithTimes: (prefix) => wait.attempt(address, () => store.listWithTimes(prefix)),
    delete: (key) => wait.attempt(address, () => store.delete(key)),
  };
}

function interruptionOf({ reason }: AbortSignal): unknown {
  return reason instanceof QianmoError
    ? reason
    : errorOf('interrupted', 'stopped on request while the object store was away', {
        cure: 'continue with --resume',
      });
}
