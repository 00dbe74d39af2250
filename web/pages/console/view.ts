import type { Model } from "./model.js";

/** What the console gives a view. */
export interface Console {
  model: Model;
  /** Does something that the API may refuse, and says what came of it: what f returns, or why not. */
  act(f: () => Promise<string>): Promise<void>;
  /** Tells something to who looks and to who listens: a line that goes by. */
  tell(text: string): void;
}

/** A view fills the element. `tick` follows about once a second, never while the one before is under way; what it throws is shown. */
export type View = (root: HTMLElement, c: Console, ...names: string[]) => { tick(): Promise<void> | void; end?(): void };
