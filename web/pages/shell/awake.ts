/** Keeps the screen on, and with it the page at work, until the returned function is called. Where a browser cannot, all goes on without. */
export function keepAwake(): () => void {
  let lock: WakeLockSentinel | undefined;
  let over = false;
  const ask = (): void => {
    if (document.visibilityState !== "visible") return; // a hidden page loses its lock, and asks again when it is seen
    navigator.wakeLock?.request("screen").then((l) => {
      if (over) void l.release();
      else lock = l;
    }, () => {}); // the battery is low, or the user does not want it
  };
  ask();
  document.addEventListener("visibilitychange", ask);
  return () => {
    over = true;
    document.removeEventListener("visibilitychange", ask);
    void lock?.release();
  };
}
