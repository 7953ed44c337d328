/**
 * One adgroup on the ranking servers that a dashboard was told of: asked while somebody looks at its page, once in ten
 * seconds.
 */

import type { Clock } from '../../../shared/base/clock.js';
import { exchanged } from '../../../shared/base/http-exchange.js';
import { redactedAddress } from '../../../shared/base/redacted-address.js';
import { KeptValues } from '../catalog/kept-values.js';
import {
  ServedAdgroupSchema,
  type ServedAdgroup,
} from '../../../shared/exploration/served-adgroup.js';
import { addressBelow } from '../../../shared/network/addresses.js';

interface RankingServers {
  /** Their own addresses, over HTTP, not those of their metrics. */
  readonly addresses: readonly string[];
  /** Null where they demand none. */
  readonly token: string | null;
  readonly clock: Clock;
}

/** The answer of a server about an adgroup, or why it gives none. */
export type AskedServer = { readonly address: string } & (
  | { readonly served: ServedAdgroup; readonly failure: null }
  | { readonly served: null; readonly failure: string }
);

const TIMEOUT_MS = 2_000;
const KEPT_FOR_MS = 10_000;

export class ServedAdgroups {
  readonly #servers: RankingServers;
  readonly #answers: KeptValues<AskedServer[]>;

  constructor(servers: RankingServers) {
    this.#servers = servers;
    this.#answers = new KeptValues(servers.clock, KEPT_FOR_MS);
  }

  /** Answers in the order of the servers' addresses. @param adgroup the values of the task columns, joined with U+001F */
  of(adgroup: string): Promise<AskedServer[]> {
    const { addresses } = this.#servers;
    return this.#answers.value(adgroup, () =>
      Promise.all(addresses.map((address) => this.#ask(address, adgroup))),
    );
  }

  async #ask(server: string, adgroup: string): Promise<AskedServer> {
    const { token, clock } = this.#servers;
    const address = redactedAddress(server);
    try {
      const path = `/v1/exploration/${encodeURIComponent(adgroup)}`;
      const headers: Record<string, string> =
        token === null ? {} : { authorization: `Bearer ${token}` };
      const request = { method: 'GET', url: addressBelow(server, path), headers } as const;
      const { status, text } = await exchanged(request, { clock, timeoutMs: TIMEOUT_MS });
      if (status === 404) return { address, served: null, failure: 'it does not explore' };
      if (status === 401) return { address, served: null, failure: 'it demands another token' };
      if (status !== 200)
        return { address, served: null, failure: `it answers with status ${status}` };
      const served = ServedAdgroupSchema.safeParse(jsonIn(text)).data;
      return served === undefined
        ? { address, served: null, failure: 'its answer is not that of a ranking server' }
        : { address, served, failure: null };
    } catch (error) {
      const failure = error instanceof Error ? error.message : String(error);
      return { address, served: null, failure };
    }
  }
}

function jsonIn(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
