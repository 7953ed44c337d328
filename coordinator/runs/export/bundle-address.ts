/** Addresses of bundles as commands take them, with the name of one of them. */

/** `ADDRESS@NAME`; an address may hold an `@` before its last slash. */
export function parsedBundleAddress(text: string): {
  readonly address: string;
  readonly name?: string;
} {
  const [, address, name] = /^(.+)@([^/@]+)$/.exec(text) ?? [];
  return address === undefined || name === undefined ? { address: text } : { address, name };
}
