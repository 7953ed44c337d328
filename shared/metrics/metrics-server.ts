/**
 * The HTTP endpoint that Prometheus scrapes, and that an autoscaler asks how many workers a run wants. It reads
 * memory only, takes no body, and answers GET and HEAD. A scraper names the machine as it likes, so no Host is refused:
 * nothing here is secret beyond the numbers, and who may reach it is the choice of the address.
 */

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { DEVICE_POOLS } from '../names/event-terms.js';
import { listening } from '../network/listening.js';
import {
  EXPOSITION_TYPE,
  expositionOf,
  type MetricRegistry,
  type MetricsSnapshot,
} from './metric-registry.js';

/** The place at which a process offers its metrics. */
export interface MetricsPlace {
  /** 0 takes a free port. */
  readonly port: number;
  readonly host: string;
}

interface MetricsServerParts {
  readonly snapshot: () => MetricsSnapshot | Promise<MetricsSnapshot>;
  /** By device, the workers that a run wants; absent where no run is decided. */
  readonly workersWanted?: () => Readonly<Record<string, number>>;
}

interface MetricsServer {
  readonly url: string;
  close(): Promise<void>;
}

const CONNECTIONS_MAX = 64;
const REQUEST_TIMEOUT_MS = 5_000;

/** @throws QianmoError `environment` if the port is taken. */
export async function serveMetrics(
  parts: MetricsServerParts,
  place: MetricsPlace,
): Promise<MetricsServer> {
  const server = createServer(
    { requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS },
    (request, response) => void answer(parts, request, response),
  );
  server.maxConnections = CONNECTIONS_MAX;
  const failure = { what: 'metrics cannot be served', option: '--metrics-port' };
  const url = await listening(server, place, failure);
  return {
    url,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function answer(
  { snapshot, workersWanted }: MetricsServerParts,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const [path] = (request.url ?? '').split('?');
  const send = (status: number, type: string, content: string): void => {
    response.writeHead(status, {
      ...{ 'Content-Type': type, 'Content-Length': Buffer.byteLength(content) },
      ...(status === 405 ? { Allow: 'GET, HEAD' } : {}),
    });
    response.end(content);
  };
  try {
    if (request.method !== 'GET' && request.method !== 'HEAD')
      send(405, 'text/plain', 'GET or HEAD\n');
    else if (path === '/metrics') send(200, EXPOSITION_TYPE, expositionOf(await snapshot()));
    else if (path === '/workers-wanted' && workersWanted !== undefined)
      send(200, 'application/json', JSON.stringify(workersWanted()));
    else send(404, 'text/plain', 'there is /metrics\n');
  } catch (error) {
    send(503, 'text/plain', `${error instanceof Error ? error.message : String(error)}\n`);
  }
}

/** Answers an autoscaler: how many workers a run wants, by pool. 0 for all pools once the run has ended. */
export function workersWantedIn(registry: MetricRegistry): Readonly<Record<string, number>> {
  return Object.fromEntries(
    DEVICE_POOLS.map((device) => [device, registry.valueOf('qianmo_workers_wanted', { device })]),
  );
}
