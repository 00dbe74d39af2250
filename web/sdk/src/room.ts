const digits = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const length = 11;
const bits64 = (1n << 64n) - 1n;

/** A room's number, 64 bits and never 0, as people write it: 11 characters of base58. It is what the whole SDK names rooms by. */
export type RoomID = string;

/** Writes a room's number. */
export function formatRoom(number: bigint): RoomID {
  let text = "";
  for (let i = 0; i < length; i++) {
    text = digits[Number(number % 58n)]! + text;
    number /= 58n;
  }
  return text;
}

/** Reads a room's number; undefined if text is none. */
export function parseRoom(text: string): bigint | undefined {
  if (text.length !== length) return undefined;
  let number = 0n;
  for (const letter of text) {
    const digit = digits.indexOf(letter);
    if (digit < 0) return undefined;
    number = number * 58n + BigInt(digit);
  }
  return number === 0n || number > bits64 ? undefined : number;
}
