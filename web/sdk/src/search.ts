import type { Connection } from "./connection.js";
import { ClientClosedError, ConnectionError } from "./errors.js";

/** How long a server that has taken the connection may say nothing before the next one is asked, too, at most, ms. */
const connectWithin = 5000;

/** The bounds of a search, ms. */
export interface Patience {
  /** How long one attempt may take. */
  dial: number;
  /** How long a server may say nothing, if the options say so. */
  silence: number | undefined;
  /** How long to wait before the n-th round, from 0. */
  pause(n: number): number;
}

/**
 * Search looks for a server that takes the client. It asks one after the other, and the next one already when one has failed or has said nothing for a step: a
 * frozen server's system still takes connections. Who was asked may go on to answer, and the first one is used. So a server that says nothing costs a step, and
 * one that many clients come to at once has nobody give up and come again behind all others.
 */
export class Search {
  private readonly ending = new AbortController();
  private readonly asked = new Set<string>(); // have not answered
  private answers: Array<Connection | Error> = [];
  private wake: (() => void) | undefined;

  /** `connect` rejects with a ConnectionError if the server's word is final. */
  constructor(private readonly connect: (server: string, signal: AbortSignal) => Promise<Connection>, private readonly patience: Patience) {}

  /** How long a server is waited for before the next one is asked, too. */
  private get step(): number {
    return Math.min((this.patience.silence || Infinity) / 4, connectWithin);
  }

  /** How long those are waited for who say nothing, before the others are asked again. */
  private get answerTime(): number {
    return Math.min(this.patience.silence || Infinity, this.patience.dial);
  }

  private ask(server: string): void {
    this.asked.add(server);
    const answered = (a: Connection | Error): void => {
      this.asked.delete(server);
      this.answers.push(a);
      if (this.ending.signal.aborted) this.clear();
      this.wake?.();
    };
    this.connect(server, this.ending.signal).then(answered, (e: Error) => answered(e instanceof ConnectionError ? e : new Error(`${server}: ${e.message}`)));
  }

  /** Waits for the next answer; undefined when the time, ms, or the search is over. */
  private async next(ms: number): Promise<Connection | Error | undefined> {
    if (this.answers.length === 0 && !this.ending.signal.aborted) {
      await new Promise<void>((resolve) => {
        const timer = ms < Infinity ? setTimeout(resolve, ms) : undefined;
        this.wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.wake = undefined;
    }
    if (this.ending.signal.aborted) throw new ClientClosedError();
    const a = this.answers.shift();
    if (a instanceof ConnectionError) throw a;
    return a;
  }

  /**
   * Asks each server once that is not being asked already, and returns the first to answer. It throws the errors of all if none takes the client, and at once
   * one that is final. Where only some have failed, so that they could be asked again, it waits no longer than `patience`, ms, for those who say nothing.
   */
  async round(servers: readonly string[], patience = this.answerTime): Promise<Connection> {
    const errors: string[] = [];
    for (const server of servers) {
      if (this.asked.has(server)) continue;
      this.ask(server);
      const a = await this.next(this.step);
      if (a instanceof Error) errors.push(a.message);
      else if (a) return a;
    }
    for (let end = Infinity; this.asked.size > 0; ) {
      if (errors.length > 0) end = Math.min(end, performance.now() + patience);
      const a = await this.next(Math.max(0, end - performance.now()));
      if (a && !(a instanceof Error)) return a;
      errors.push(a?.message ?? `${[...this.asked].join(", ")}: no answer yet`);
      if (!a) break;
    }
    throw new Error(errors.join("; "));
  }

  /** Goes round the servers until one takes the client, with a pause before each round, in which those may answer who were asked before. The error is final. */
  async until(order: () => readonly string[], rounds = 0): Promise<Connection> {
    for (let n = rounds; ; n++) {
      for (const end = performance.now() + this.patience.pause(n); ; ) {
        const a = await this.next(Math.max(0, end - performance.now()));
        if (!a) break;
        if (!(a instanceof Error)) return a;
      }
      try {
        return await this.round(order());
      } catch (e) {
        if (e instanceof ConnectionError || e instanceof ClientClosedError) throw e;
      }
    }
  }

  /** Lets go of all that were asked, but of the one that was returned. */
  end(): void {
    this.ending.abort();
    this.clear();
    this.wake?.();
  }

  private clear(): void {
    for (const a of this.answers.splice(0)) if (!(a instanceof Error)) a.close();
  }
}
