/**
 * The ranking servers that a dashboard was told of, read at their metrics: at most once a second, whoever asks, and
 * not at all while nobody does. Readings of the last minute are kept, so that a page shows rates, and of the last hour
 * those that are a minute apart.
 */

import type { Clock } from '../../../shared/base/clock.js';
import { exchanged } from '../../../shared/base/http-exchange.js';
import { redactedAddress } from '../../../shared/base/redacted-address.js';
import { samplesOf } from '../../../shared/metrics/exposition-reader.js';
import { KeptValues } from '../catalog/kept-values.js';
import { MetricWindow, type MetricReading } from './metric-window.js';

export interface WatchedServer {
  /** Without a password. */
  readonly address: string;
  /** The metrics of the last minute; null before the first answer. */
  readonly window: MetricWindow | null;
  /** Counts since the server started, and between readings of which the first is at least a minute old, or null. */
  readonly long: { readonly sinceStart: MetricWindow; readonly lately: MetricWindow | null } | null;
  /** Why the last question had no answer; null if it had one. */
  readonly failure: string | null;
}

const KEPT_FOR_MS = 1_000;
const WINDOW_MS = 60_000;
const READINGS_MAX = 64;
/** A reading of each minute of the last hour is kept as well, for what shows over longer times. */
const LONG_INTERVAL_MS = 60_000;
const LONG_WINDOW_MS = 3_600_000;

export class ServingWatch {
  readonly #servers: readonly FollowedServer[];
  readonly #state: KeptValues<readonly WatchedServer[]>;

  /** @param addresses of metrics, over HTTP. */
  constructor(addresses: readonly string[], clock: Clock) {
    this.#servers = addresses.map((address) => new FollowedServer(address, clock));
    this.#state = new KeptValues(clock, KEPT_FOR_MS);
  }

  /** In the order of their addresses' first mention. */
  state(): Promise<readonly WatchedServer[]> {
    return this.#state.value('', () => Promise.all(this.#servers.map((server) => server.read())));
  }
}

class FollowedServer {
  readonly #address: string;
  readonly #clock: Clock;
  #readings: MetricReading[] = [];
  #longReadings: MetricReading[] = [];

  constructor(address: string, clock: Clock) {
    this.#address = address;
    this.#clock = clock;
  }

  async read(): Promise<WatchedServer> {
    const address = redactedAddress(this.#address);
    let failure: string | null = null;
    try {
      this.#keep({ atMs: this.#clock.monotonicMs(), samples: samplesOf(await this.#answer()) });
    } catch (error) {
      failure = error instanceof Error ? error.message : String(error);
    }
    const [earliest] = this.#readings;
    const latest = this.#readings.at(-1);
    if (earliest === undefined || latest === undefined)
      return { address, window: null, long: null, failure };
    const earlier = earliest === latest ? null : earliest;
    const window = new MetricWindow(earlier, latest);
    return { address, window, long: this.#longWindows(latest), failure };
  }

  #longWindows(latest: MetricReading): WatchedServer['long'] {
    const first = this.#longReadings.find(({ atMs }) => latest.atMs - atMs >= LONG_INTERVAL_MS);
    const sinceStart = new MetricWindow(null, latest);
    if (first === undefined) return { sinceStart, lately: null };
    const lately = new MetricWindow(first, latest);
    // After a restart it would say the same.
    return { sinceStart, lately: lately.durationMs === null ? null : lately };
  }

  async #answer(): Promise<string> {
    const request = { method: 'GET', url: this.#address, headers: {} } as const;
    const { status, text } = await exchanged(request, { clock: this.#clock });
    if (status !== 200) throw new Error(`it answers with status ${status}`);
    return text;
  }

  #keep(reading: MetricReading): void {
    const kept = this.#readings.filter(({ atMs }) => reading.atMs - atMs <= WINDOW_MS);
    this.#readings = [...kept.slice(-(READINGS_MAX - 1)), reading];
    const last = this.#longReadings.at(-1);
    if (last !== undefined && reading.atMs - last.atMs < LONG_INTERVAL_MS) return;
    const inTime = this.#longReadings.filter(({ atMs }) => reading.atMs - atMs <= LONG_WINDOW_MS);
    this.#longReadings = [...inTime, reading];
  }
}
