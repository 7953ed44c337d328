// The versions of Node that qianmo supports. package.json states the same range in `engines`.

const MAJOR_MIN = 20;
const MAJOR_MAX = 24;

export const SUPPORTED_NODE = `Node ${MAJOR_MIN} to ${MAJOR_MAX}`;
export const NODE_CURE = `install Node ${MAJOR_MAX}, 22 or 20 and put it first on PATH`;

/**
 * @param {string} [version] without a leading v; that of this process by default
 * @returns {boolean}
 */
export function isNodeSupported(version = process.versions.node) {
  const major = Number(version.split('.')[0]);
  return major >= MAJOR_MIN && major <= MAJOR_MAX;
}
