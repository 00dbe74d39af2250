import type { Page } from "./page.js";

/** A page of the shell: to add one, add a line here and its path to `routes` in web.go. */
export interface Route {
  path: string;
  title: readonly [en: string, zh: string];
  about: readonly [en: string, zh: string];
  icon: string;
  load: () => Promise<{ page: Page }>;
}

export const routes: readonly Route[] = [];
