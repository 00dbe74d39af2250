/**
 * Window is a budget of bytes for what is pushed and not acknowledged. Pushes that find it used up are served in the order in which they
 * came. A stream may have three quarters of it for messages of several pieces, so that a picture leaves room for the sound.
 */
export class Window {
  size = 0;
  used = 0;
  private waiting: Array<{ n: number; share: (() => number) | undefined; grant(): void; fail(e: Error): void }> = [];

  private fits(n: number): boolean {
    return this.used + n <= this.size || (this.used === 0 && this.size > 0);
  }

  private exceeds(n: number, share: (() => number) | undefined): boolean {
    const has = share?.() ?? 0;
    return has > 0 && has + n > this.size - this.size / 4;
  }

  /** Waits for n bytes. `share` returns what the stream has already, if its share counts. It rejects when the window is closed. */
  take(n: number, share?: () => number): Promise<void> | undefined {
    if (this.waiting.length === 0 && this.fits(n) && !this.exceeds(n, share)) {
      this.used += n;
      return undefined;
    }
    return new Promise((grant, fail) => {
      this.waiting.push({ n, share, grant, fail });
      this.serve();
    });
  }

  /** Gives n bytes back. */
  release(n: number): void {
    this.used -= n;
    this.serve();
  }

  resize(size: number): void {
    this.size = size;
    this.serve();
  }

  private serve(): void {
    for (let i = 0; i < this.waiting.length; ) {
      const w = this.waiting[i]!;
      if (this.exceeds(w.n, w.share)) {
        i++;
        continue;
      }
      if (!this.fits(w.n)) return;
      this.used += w.n;
      this.waiting.splice(i, 1);
      w.grant();
    }
  }

  /** Fails all who wait. */
  close(e: Error): void {
    for (const w of this.waiting.splice(0)) w.fail(e);
  }
}
