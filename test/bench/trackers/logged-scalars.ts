/** The scalars that an event log holds, by call and name: what trackers must have. */

import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { scalarsOf } from '../../../coordinator/tracking/scalars.js';
import { parseEventLine } from '../../../shared/events/event-lines.js';

/** `{ train: { 'loss/query': [[outerStep, value], ...] } }`, each outer step as it was told last. */
export type LoggedScalars = Readonly<
  Record<string, Readonly<Record<string, readonly (readonly [number, number])[]>>>
>;

/** Scalars of the global arm are left out: it is another run. */
export async function loggedScalars(output: string): Promise<LoggedScalars> {
  const folder = join(output, 'events');
  const curves = new Map<string, Map<string, Map<number, number>>>();
  let call = '';
  let run: string | undefined;
  for (const name of (await readdir(folder)).sort())
    for (const line of (await readFile(join(folder, name), 'utf8')).trim().split('\n')) {
      const event = parseEventLine(line);
      if (event.kind === 'call-alive') {
        call = event.call;
        run = event.runId;
      }
      if (event.runId !== undefined && event.runId !== run) continue;
      for (const scalar of scalarsOf(event)) {
        const ofCall = curves.get(call) ?? new Map<string, Map<number, number>>();
        const curve = ofCall.get(scalar.name) ?? new Map<number, number>();
        curves.set(call, ofCall.set(scalar.name, curve.set(scalar.outerStep, scalar.value)));
      }
    }
  const ordered = (curve: ReadonlyMap<number, number>) => [...curve].sort((a, b) => a[0] - b[0]);
  return Object.fromEntries(
    [...curves].map(([name, ofCall]) => [
      name,
      Object.fromEntries([...ofCall].map(([scalar, curve]) => [scalar, ordered(curve)])),
    ]),
  );
}
