/** So long after it was pressed a button asks whether it is meant, ms. */
const askMillis = 4000;

/** Makes a button ask once more, in its own words, before it does what cannot be taken back. */
export function sure(b: HTMLButtonElement, question: string, run: () => void): HTMLButtonElement {
  const [text, label] = [b.textContent, b.getAttribute("aria-label")];
  let timer = 0;
  const say = (words: string | null): void => {
    b.textContent = words ?? text;
    if (label !== null) b.setAttribute("aria-label", words ?? label);
  };
  b.onclick = () => {
    if (timer !== 0) {
      clearTimeout(timer);
      timer = 0;
      say(null);
      return run();
    }
    say(question);
    timer = window.setTimeout(() => {
      timer = 0;
      say(null);
    }, askMillis);
  };
  return b;
}
