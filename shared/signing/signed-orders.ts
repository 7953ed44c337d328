/**
 * Orders that are signed. A signature covers the orders, the run, the start of the coordinator that they are addressed
 * to, and a number that grows. A coordinator says with its lease, signed too, which orders it has heard last, so that
 * those who give orders learn whether it demands signatures and whether they have its key.
 *
 * The next start of a run that died inherits a pause and a cancel, but only those that it finds when it begins. It inherits
 * no extension: somebody could write an old one again, and a checkpoint records each that has taken effect.
 */

import { QianmoError } from '../base/errors.js';
import {
  encodeOrders,
  NO_ORDERS,
  UnreadableOrdersError,
  type ControlledRun,
  type RunOrders,
} from '../control/run-orders.js';
import type { QueueController } from '../queue/job-queue.js';
import type { LeaseHolder } from '../storage/run-lease.js';
import { isGenuine, signatureOf } from './record-signature.js';
import type { SigningKey } from './signing-key.js';

const SAME_KEY = 'the same QIANMO_SIGNING_KEY_FILE as its coordinator';

function sealed(
  { seal: _earlier, ...orders }: RunOrders,
  { runId, start, sequence }: { runId: string; start: string; sequence: number },
  key: SigningKey,
): RunOrders {
  const place = { kind: 'orders', runId, start } as const;
  return {
    ...orders,
    seal: { start, sequence, signature: signatureOf({ orders, sequence }, place, key) },
  };
}

function isSealGenuine({ seal, ...orders }: RunOrders, runId: string, key: SigningKey): boolean {
  if (seal === undefined) return false;
  const { start, sequence, signature } = seal;
  return isGenuine(
    { record: { orders, sequence }, signature },
    { kind: 'orders', runId, start },
    key,
  );
}

function inherited({ seal: _seal, ...orders }: RunOrders): RunOrders {
  return { ...orders, outerSteps: null };
}

interface OrdersReaderOptions {
  readonly runId: string;
  readonly start: string;
  readonly key: SigningKey;
  readonly where: string;
}

/** The orders that a start of a coordinator takes. */
export class OrdersReader {
  readonly #options: OrdersReaderOptions;
  #sequence = 0;
  #orders = NO_ORDERS;
  #hasRead = false;
  /** The text of the orders of an earlier start that were found at the beginning. */
  #inheritedText: string | null = null;

  constructor(options: OrdersReaderOptions) {
    this.#options = options;
  }

  isOf(runId: string, start: string): boolean {
    return this.#options.runId === runId && this.#options.start === start;
  }

  /** The record of the holder, which says that orders must be signed. */
  signed(holder: LeaseHolder): LeaseHolder {
    const { runId, start, key } = this.#options;
    const sequence = this.#sequence;
    const signature = signatureOf({ sequence }, { kind: 'lease', runId, start }, key);
    return { ...holder, signedOrders: { sequence, signature } };
  }

  /** @throws UnreadableOrdersError if the orders are not signed for this start, or are older than those heard last. */
  read(found: RunOrders): RunOrders {
    const isFirst = !this.#hasRead;
    this.#hasRead = true;
    const { seal, ...orders } = found;
    if (seal === undefined) {
      // A server that has lost its memory says the same as one whose orders somebody deleted.
      if (encodeOrders(orders) === encodeOrders(NO_ORDERS)) return this.#orders;
      throw this.#refused('they are not signed');
    }
    if (!isSealGenuine(found, this.#options.runId, this.#options.key))
      throw this.#refused('their signature is false');
    if (seal.start !== this.#options.start) return this.#readInherited(found, isFirst);
    const isSame = encodeOrders(orders) === encodeOrders(this.#orders);
    if (seal.sequence < this.#sequence || (seal.sequence === this.#sequence && !isSame))
      throw this.#refused('they are older than those that it has heard');
    this.#sequence = seal.sequence;
    this.#orders = orders;
    return orders;
  }

  #readInherited(found: RunOrders, isFirst: boolean): RunOrders {
    const text = encodeOrders(found);
    if (isFirst) {
      this.#inheritedText = text;
      this.#orders = inherited(found);
      return this.#orders;
    }
    if (text !== this.#inheritedText)
      throw this.#refused('they are addressed to another start of the run');
    if (found.outerSteps !== null)
      throw this.#refused('they extend an earlier start of the run: extend it again');
    return this.#orders;
  }

  #refused(found: string): UnreadableOrdersError {
    const { runId, where } = this.#options;
    return new UnreadableOrdersError({
      kind: 'usage',
      what: `the orders that were given to run ${runId} are refused`,
      where,
      expected: 'orders that are signed for this start of the run',
      found,
      cure: `give orders with ${SAME_KEY}; if nobody gave these, somebody else writes to this Redis`,
    });
  }
}

/** @param key null fails for runs that demand signed orders. */
export function signingController(
  controller: QueueController,
  key: SigningKey | null,
  where: string,
): QueueController {
  const find = async (runId: string): Promise<ControlledRun | null> => {
    const found = await controller.find(runId);
    if (found === null) return null;
    const { signedOrders: _signed, ...holder } = found.holder;
    return { holder, orders: ordersInEffect(found, runId, key) };
  };
  return {
    ...controller,
    find,
    replace: async (runId, earlier, orders) => {
      const found = await controller.find(runId);
      if (found === null) return false;
      const { start, signedOrders } = found.holder;
      if (signedOrders === undefined) return controller.replace(runId, earlier, orders);
      if (key === null || !isHolderGenuine(found.holder, runId, key))
        throw keyMissing(runId, where, key);
      const inEffect = ordersInEffect(found, runId, key);
      if (encodeOrders(inEffect) !== encodeOrders(earlier)) return false;
      const known = isSealGenuine(found.orders, runId, key) ? found.orders.seal : undefined;
      const last = known?.start === start ? known.sequence : 0;
      const sequence = Math.max(last, signedOrders.sequence) + 1;
      return controller.replace(
        runId,
        found.orders,
        sealed(orders, { runId, start, sequence }, key),
      );
    },
    withdraw: (runId, change) =>
      controller.withdraw(runId, (found) => {
        const { seal } = found;
        if (key === null || seal === undefined || !isSealGenuine(found, runId, key))
          return change(found);
        const { start, sequence } = seal;
        return sealed(change(found), { runId, start, sequence: sequence + 1 }, key);
      }),
  };
}

/** The orders that the coordinator follows, or will follow when it reads the record. */
function ordersInEffect(
  { holder, orders: found }: ControlledRun,
  runId: string,
  key: SigningKey | null,
): RunOrders {
  const { start, progress, signedOrders: heard } = holder;
  if (key === null || heard === undefined) return found;
  const { seal, ...orders } = found;
  if (seal !== undefined && isSealGenuine(found, runId, key)) {
    if (seal.start === start && seal.sequence >= heard.sequence) return orders;
    if (seal.start !== start && heard.sequence === 0) return inherited(found);
  }
  // The record is lost or somebody else's. The coordinator shows what it has heard.
  const { state = 'running', training = null } = progress ?? {};
  const hasOwnLength = heard.sequence > 0 && training?.lengthFixedBy === null;
  return {
    isPaused: state === 'pausing' || state === 'paused',
    isCancelled: state === 'stopping',
    outerSteps: hasOwnLength ? training.outerSteps : null,
  };
}

function isHolderGenuine({ start, signedOrders }: LeaseHolder, runId: string, key: SigningKey) {
  if (signedOrders === undefined) return false;
  const { sequence, signature } = signedOrders;
  return isGenuine({ record: { sequence }, signature }, { kind: 'lease', runId, start }, key);
}

function keyMissing(runId: string, where: string, key: SigningKey | null): QianmoError {
  return new QianmoError({
    kind: 'usage',
    what: `run ${runId} takes signed orders only`,
    where,
    expected: 'the signing key of its coordinator',
    found: key === null ? 'no key' : 'another key',
    cure: `give this command ${SAME_KEY}`,
  });
}
