/** A server on its port, or the reason why it has none. */

import type { AddressInfo, Server } from 'node:net';
import { errorOf } from '../base/errors.js';

interface ListeningPlace {
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
}

/**
 * Resolves with the address at which requests of HTTP are taken.
 *
 * @param failure what is said unless the port is taken, and the option that names the port.
 * @throws QianmoError `environment` if the port is taken, or the host is not this machine's.
 */
export function listening(
  server: Server,
  { host, port }: ListeningPlace,
  failure: { readonly what: string; readonly option: string },
): Promise<string> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const isTaken = cause.code === 'EADDRINUSE';
      reject(
        errorOf('environment', isTaken ? 'another program listens on this port' : failure.what, {
          where: `${host}:${port}`,
          found: cause.message,
          cure: `give another ${failure.option}, or 0 for a free one`,
          cause,
        }),
      );
    });
    server.listen({ host, port }, () => {
      // Only pipes have an address without a port.
      const { port: taken } = server.address() as AddressInfo;
      resolve(`http://${host.includes(':') ? `[${host}]` : host}:${taken}`);
    });
  });
}
