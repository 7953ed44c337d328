/**
 * The few things of a browser that the script of the pages uses. The types of a whole browser would hold for the
 * server's code as well, which has no document.
 */

export interface PageElement {
  readonly id: string;
  innerHTML: string;
  textContent: string | null;
  className: string;
  open: boolean;
  scrollTop: number;
  scrollLeft: number;
  readonly dataset: Record<string, string | undefined>;
  contains(other: PageElement | null): boolean;
  focus(options: { readonly preventScroll: boolean }): void;
  querySelectorAll(selector: string): Iterable<PageElement>;
}

interface PageDocument {
  title: string;
  readonly hidden: boolean;
  readonly activeElement: PageElement | null;
  getElementById(id: string): PageElement | null;
  querySelectorAll(selector: string): Iterable<PageElement>;
  addEventListener(kind: 'visibilitychange', listener: () => void): void;
}

export interface ChangeStream {
  readonly readyState: number;
  onopen: (() => void) | null;
  onerror: (() => void) | null;
  addEventListener(kind: 'parts', listener: (event: { readonly data: string }) => void): void;
  close(): void;
}

export interface Browser {
  readonly document: PageDocument;
  readonly EventSource: new (path: string) => ChangeStream;
  setTimeout(work: () => void, delayMs: number): number;
  clearTimeout(timer: number): void;
  addEventListener(kind: 'pagehide', listener: () => void): void;
}
