/** The arms of an evaluation: models, adapted or not, that are compared on the same rows. */

/** Arms that use the global model. Every other arm is compared with each of them. */
export const GLOBAL_ARMS = ['global', 'global-shift', 'finetuned'] as const;

export function isGlobalArm(arm: string): boolean {
  return GLOBAL_ARMS.some((each) => each === arm);
}

/** Arms of the meta-trained model with blocks of crowds, which a method with crowds has. */
export const CROWD_ARMS = ['crowd-unadapted', 'crowd-adapted'] as const;

/** Arms that use the meta-trained model. */
export const META_ARMS = ['meta-unadapted', 'meta-adapted', ...CROWD_ARMS, 'meta-chosen'] as const;

/** Arms that a config can ask for. */
export const EVALUATED_ARMS = ['constant', ...GLOBAL_ARMS, ...META_ARMS] as const;

/** All arms in the order in which they are shown. The oracle is present if the logs contain it. */
export const ARM_NAMES = [...EVALUATED_ARMS, 'oracle'] as const;

export type ArmName = (typeof ARM_NAMES)[number];

/**
 * The name of an arm for people. Records keep the other one. Where the bias alone is personal, an adgroup learns its level
 * and nothing else.
 */
export function shownArm(arm: string, personalBlocks: readonly string[]): string {
  const isLevel = personalBlocks.length === 1 && personalBlocks[0] === 'bias';
  if (!isLevel) return arm;
  return arm === 'meta-adapted' ? 'level' : arm.replace(/^meta-/, 'level-');
}
