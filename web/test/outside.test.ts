// What most send from outside, MPEG-TS with H.264 and AAC, plays in a page. outsidedrill.ts has the rest.

import { byDecoders, byElement } from "./outsidecases.js";

byDecoders("ts");
byElement("ts");
