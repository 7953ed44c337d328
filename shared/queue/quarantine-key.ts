/** Where the server keeps that a worker is quarantined. The key lives as long as the quarantine. */

export function quarantineKeyOf(prefix: string, worker: string): string {
  return `${prefix}:quarantine:${worker}`;
}
