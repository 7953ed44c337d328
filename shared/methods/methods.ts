/** The list of methods: a new one is a file beside this and a line here. */

import { z } from 'zod';
import { fomaml } from './fomaml.js';
import { globalMethod } from './global.js';
import { maml } from './maml.js';
import type { Method, MethodPlan } from './method.js';

const METHODS = [fomaml, maml, globalMethod] as const;

type SettingsOf<Listed extends readonly { readonly settings: z.ZodObject }[]> = {
  [Place in keyof Listed]: Listed[Place]['settings'];
};

export const MethodConfigSchema = z.discriminatedUnion(
  'kind',
  // `map` forgets which place holds which schema.
  METHODS.map(({ settings }) => settings) as unknown as SettingsOf<typeof METHODS>,
);

export type MethodConfig = z.infer<typeof MethodConfigSchema>;

export function methodPlanOf(config: MethodConfig): MethodPlan {
  const method = METHODS.find(({ settings }) => settings.shape.kind.value === config.kind);
  if (method === undefined) throw new Error(`no method ${config.kind}`);
  // The literals of their kinds pair schema and config.
  return (method as unknown as Method<z.ZodObject>).planOf(config);
}

/** Share of the outer loss that is the loss before adaptation. */
export function coldShareOf(config: MethodConfig): number {
  return methodPlanOf(config).innerLoop?.coldShare ?? 0;
}
