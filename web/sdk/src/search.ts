import type { Connection } from "./connection.js";
import { ClientClosedError, ConnectionError } from "./errors.js";

/** How long a server that has taken the connection may say nothing before the next one is asked, too, at most, ms. */
const connectWithin = 5000;

/** How many attempts with one server may go on at once: enough for a balancer to notice meanwhile that the server is frozen which it leads to. */
const maxAsked = 5;

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
 * one that many clients come to at once has nobody give up and come again behind all others. Each round asks those again, too, who say nothing: a balancer of
 * that name may lead elsewhere.
 */
export class Search {
  private readonly ending = new AbortController();
  private readonly asked = new Map<string, number>(); // attempts that have not come to an end; never 0
  private answers: Array<Connection | Error> = [];
  private wake: (() => void) | undefined;

  /** `connect` rejects with a ConnectionError if the server's word is final. */
  constructor(private readonly connect: (server: string, signal: AbortSignal) => Promise<Connection>, private readonly patience: Patience) {}

  /** How long a server is waited for before the next one is asked, too. */
  private get step(): number {
    return Math.min((this.patience.silence || Infinity) / 2, connectWithin);
  }

  /** How long those are waited for who say nothing, before all are asked again. */
  private get answerTime(): number {
    return Math.min(this.patience.silence || Infinity, this.patience.dial, connectWithin);
  }

  private ask(server: string): void {
    this.asked.set(server, (this.asked.get(server) ?? 0) + 1);
    const answered = (a: Connection | Error): void => {
      const left = this.asked.get(server)! - 1;
      if (left > 0) this.asked.set(server, left);
      else this.asked.delete(server);
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
   * Asks each server once, and returns the first to answer. It throws the errors of all if none takes the client, and at once one that is final. It waits no
   * longer than `patience`, ms, for those who say nothing; they may still answer afterwards.
   */
  async round(servers: readonly string[], patience = this.answerTime): Promise<Connection> {
    const errors: string[] = [];
    for (const server of servers) {
      if (this.asked.get(server) === maxAsked) continue;
      this.ask(server);
      const a = await this.next(this.step);
      if (a instanceof Error) errors.push(a.message);
      else if (a) return a;
    }
    for (const end = performance.now() + patience; this.asked.size > 0; ) {
      const a = await this.next(Math.max(0, end - performance.now()));
      if (a && !(a instanceof Error)) return a;
      errors.push(a?.message ?? `${[...this.asked.keys()].join(", ")}: no answer yet`);
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
