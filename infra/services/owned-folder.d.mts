/** Types of owned-folder.mjs; the meaning is documented there. */

export function openOwnedFolder(kind: string, parent?: string): string;
