/** Decides by the Host header whether a request was meant for this machine. */

import { isIPv6 } from 'node:net';
import { isLoopbackHost } from '../../shared/network/loopback-host.js';

const PORT = /:\d{1,5}$/;

/**
 * The name or address without the port, in lower case, and IPv6 without brackets.
 *
 * @param host a Host header, or a name that an option allows.
 */
export function hostName(host: string): string {
  const name = (isIPv6(host) ? host : host.replace(PORT, '')).toLowerCase();
  const inBrackets = /^\[(.*)\]$/.exec(name)?.[1] ?? '';
  return isIPv6(inBrackets) ? inBrackets : name;
}

/** @param hostsAllowed further names or addresses. */
export function isOwnHost(host: string, hostsAllowed: readonly string[]): boolean {
  const name = hostName(host);
  if (name === '') return false;
  return isLoopbackHost(name) || hostsAllowed.some((allowed) => hostName(allowed) === name);
}
