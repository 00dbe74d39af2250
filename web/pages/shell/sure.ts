/** So long a button that asks whether it is meant waits for the answer, ms. */
const askMillis = 4000;
/** A press that begins sooner than this after the one before is not an answer to what that one brought: it is half of a double click, ms. */
const apartMillis = 500;

/**
 * Has a button take nothing for a moment, and then only presses that begin after it: what is left of the press that brought the question, a double click or a key
 * that is held down does not answer it. Whoever goes on pressing starts the moment anew.
 */
export function apart(b: HTMLButtonElement): { begin(): void; end(): void; meant(): boolean } {
  let timer = 0;
  let pressed: boolean | undefined; // whether the press that is going on began in time
  const end = (): void => {
    clearTimeout(timer);
    timer = 0;
    b.removeAttribute("aria-disabled");
  };
  const begin = (): void => {
    end();
    pressed = undefined;
    b.setAttribute("aria-disabled", "true");
    timer = window.setTimeout(end, apartMillis);
  };
  const press = (): void => {
    const early = timer !== 0;
    if (early) begin();
    pressed = !early;
  };
  b.addEventListener("pointerdown", press);
  b.addEventListener("keydown", (e) => {
    if (e.key !== "Enter" && e.key !== " ") return;
    if (e.repeat) e.preventDefault();
    else press();
  });
  return {
    begin,
    end,
    meant: () => {
      const yes = pressed ?? timer === 0; // a screen reader's click comes alone
      pressed = undefined;
      if (!yes) begin();
      return yes;
    },
  };
}

/** Makes a button ask once more, in its own words, before it does what cannot be taken back. */
export function sure(b: HTMLButtonElement, question: string, run: () => void): HTMLButtonElement {
  const [text, label] = [b.textContent, b.getAttribute("aria-label")];
  const answer = apart(b);
  let timer = 0;
  const say = (words: string | null): void => {
    b.textContent = words ?? text;
    if (label !== null) b.setAttribute("aria-label", words ?? label);
  };
  const over = (): void => {
    clearTimeout(timer);
    timer = 0;
    answer.end();
    say(null);
  };
  const ask = (): void => {
    clearTimeout(timer);
    timer = window.setTimeout(over, askMillis);
  };
  b.onclick = () => {
    if (timer === 0) {
      say(question);
      answer.begin();
      return ask();
    }
    if (!answer.meant()) return ask();
    over();
    run();
  };
  return b;
}
