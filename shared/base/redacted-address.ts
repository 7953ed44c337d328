/** Addresses of servers without their passwords, for messages, events and files. */

const SCHEME = /^(?:[a-z][a-z0-9+.-]*:\/\/)?/i;

/**
 * Returns the address with its password and the values of its query hidden. A password may hold any
 * character, as in `redis://user:p@ss@host`. Where it is not clear what belongs to the password,
 * everything is hidden.
 */
export function redactedAddress(address: string): string {
  const { scheme, user, host, hasPassword } = partsOf(address);
  if (host === null) return `${scheme}***`;
  const credentials = hasPassword ? `${user}:***@` : '';
  return `${scheme}${credentials}${host.replace(/\?.*$/s, '?***')}`;
}

/** A copy of an address with a secret must not be made where others can read it. */
export function hasSecret(address: string): boolean {
  const { host, hasPassword } = partsOf(address);
  return host === null || hasPassword || host.includes('?');
}

/**
 * Returns the address without its user, password and query: what another reader can complete. Where it
 * is not clear what the host is, a word stands for it.
 */
export function addressWithoutSecret(address: string): string {
  const { scheme, host } = partsOf(address);
  return `${scheme}${(host ?? 'HOST').replace(/\?.*$/s, '')}`;
}

interface AddressParts {
  readonly scheme: string;
  readonly user: string;
  readonly hasPassword: boolean;
  /** Host, port, path and query; null when it is not clear where they begin. */
  readonly host: string | null;
}

function partsOf(address: string): AddressParts {
  const scheme = SCHEME.exec(address)?.[0] ?? '';
  const rest = address.slice(scheme.length);
  const at = rest.lastIndexOf('@');
  if (at < 0) return { scheme, user: '', hasPassword: false, host: rest };
  const credentials = rest.slice(0, at);
  const isAmbiguous = credentials.includes('?');
  const colon = credentials.indexOf(':');
  return {
    scheme,
    // A password that was written in the place of the user is hidden too.
    user: colon < 0 ? '' : credentials.slice(0, colon),
    hasPassword: true,
    host: isAmbiguous ? null : rest.slice(at + 1),
  };
}
