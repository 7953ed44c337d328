/** Types of node-version.mjs, for TypeScript code; the meaning is documented there. */
export const SUPPORTED_NODE: string;
export const NODE_CURE: string;
export function isNodeSupported(version?: string): boolean;
