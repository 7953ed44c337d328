/** The arms of an evaluation: models, adapted or not, that are compared on the same rows. */

/** Arms that use the global model. Every other arm is compared with each of them. */
export const GLOBAL_ARMS = ['global', 'global-shift', 'finetuned'] as const;

/** Arms that use the meta-trained model. */
export const META_ARMS = ['meta-unadapted', 'meta-adapted', 'meta-chosen'] as const;

/** Arms that are evaluated where a config names none. */
export const DEFAULT_ARMS = ['constant', ...GLOBAL_ARMS, ...META_ARMS] as const;

/** Arms that a config can ask for. */
export const EVALUATED_ARMS = [...DEFAULT_ARMS, 'blend'] as const;

/** Arms whose outputs a blend adds up. The arm meta-chosen has only outputs that others have. */
export const BLENDED_ARMS = [...GLOBAL_ARMS, 'meta-unadapted', 'meta-adapted'] as const;

/** Arms that a run can be scored by: those of its own model. */
export const SCORING_ARMS = [...GLOBAL_ARMS, ...META_ARMS] as const;

export type ScoringArm = (typeof SCORING_ARMS)[number];

/** All arms in the order in which they are shown. The oracle is present if the logs contain it. */
export const ARM_NAMES = [...EVALUATED_ARMS, 'oracle'] as const;

export type ArmName = (typeof ARM_NAMES)[number];
