/** Small pieces of HTML that tables and pages are made of. */

export function escapeHtml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}

/** A dot in the colour that plots use for the name behind it. */
export function dotHtml(colour: string): string {
  return `<span class="dot" style="background:${colour}"></span>`;
}
