/** The scripts of BullMQ on one connection, and their replacement by longer ones that answer more. */

import { z } from 'zod';

const ScriptsSchema = z.record(z.string(), z.looseObject({ lua: z.string() }));

/** The part of the connection by which the library defines its scripts, once it has connected. */
export interface ScriptedConnection {
  readonly scriptsSet: unknown;
  defineCommand(name: string, script: { numberOfKeys: number; lua: string }): void;
}

/**
 * Puts a script that contains that of the library in its place.
 *
 * @param longer makes the text of the script from that of the library.
 * @throws Error if the library has no such script.
 */
export function lengthenScript(
  redis: ScriptedConnection,
  script: { readonly name: string; readonly keyCount: number },
  longer: (lua: string) => string,
): void {
  const scripts = ScriptsSchema.parse(redis.scriptsSet);
  const found = Object.entries(scripts).find(([name]) => name.startsWith(`${script.name}:`));
  if (found === undefined) throw new Error(`BullMQ has no script ${script.name}`);
  const [name, { lua }] = found;
  redis.defineCommand(name, { numberOfKeys: script.keyCount, lua: longer(lua) });
}
