import type { Client, Options } from "@timedge/sdk";

/** What /about.json says of the server. */
export interface About {
  version: string;
  open: boolean;
  guests: boolean;
}

/** What the shell gives a page. */
export interface Shell {
  about: About;
  /** What is behind # in the address: it goes to no server. */
  hash: string;
  /** The name that the visitor has; "" for a guest who may only subscribe. */
  account(): string;
  /**
   * Connects to the server that the page is from. Where it wants a token it waits until the visitor has given one; a page that only subscribes
   * says so by `guest`, and is let in without where the server lets guests. The page closes the client.
   */
  dial(o?: Partial<Options> & { guest?: boolean }): Promise<Client>;
  /** Tells something to who looks and to who listens: a line that goes by. */
  tell(text: string): void;
}

/** A page: it fills the element, and returns how to end what it began. */
export type Page = (root: HTMLElement, shell: Shell) => () => void;
